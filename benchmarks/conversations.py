"""What the training benchmarks share: real conversations and a small decoder for them."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.harness import data_file
from ray_sft.models import load_model, load_processor, save_tiny_llama
from ray_sft.tasks import CausalLanguageModel, Example, Processor
from ray_sft.tasks.causal_language_model import running_text

__all__ = ["Conversations", "load_conversations"]


@dataclass(frozen=True, slots=True)
class Conversations:
    """Encoded conversations and where their model lies."""

    task: CausalLanguageModel
    processor: Processor
    examples: list[Example]
    path: Path
    model_dir: Path

    def model(self) -> torch.nn.Module:
        """A fresh copy of the model, in training mode."""
        return load_model(str(self.model_dir), self.task, processor=self.processor).train()


def load_conversations(folder: Path, *, num: int, max_length: int) -> Conversations:
    """The first ``num`` sgd conversations and a tiny Llama whose tokenizer has learned them."""
    source = data_file("sgd", "train.jsonl")
    with source.open(encoding="utf-8") as file:
        lines = [line for _, line in zip(range(num), file, strict=False)]
    path = folder / "conversations.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    rows = [json.loads(line) for line in lines]
    model_dir = folder / "model"
    texts = [running_text(row) for row in rows]
    save_tiny_llama(texts, model_dir, vocab_size=4096, max_length=max_length, seed=0)
    processor = load_processor(model_dir)
    task = CausalLanguageModel(max_length=max_length)
    encoded = task.encode(rows, processor)
    examples = [item for item in encoded if isinstance(item, Example)]
    return Conversations(task, processor, examples, path, model_dir)
