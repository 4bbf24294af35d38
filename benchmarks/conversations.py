"""What the training benchmarks share: real conversations and a small decoder for them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import data_file
from ray_sft.data import Gate, Jsonl, Quality, Splits, Stream, prepare
from ray_sft.models import load_model, load_processor, save_tiny_llama
from ray_sft.tasks import CausalLanguageModel, Example, Processor
from ray_sft.tasks.causal_language_model import running_text
from ray_sft.training import Train, train_model

__all__ = [
    "Conversations",
    "load_conversations",
    "prepare_conversations",
    "steps_of",
    "stream_conversations",
    "train_steps",
]


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


def stream_conversations(data: Conversations, folder: Path, *, rows: int) -> Stream:
    """The rows of ``data`` without end, in windows of ``rows``."""
    source = Jsonl(path=str(data.path))
    return Stream(
        source,
        tuple(source.slices()),
        data.task,
        processor_dir=data.model_dir,
        folder=folder / "shards" / "train",
        eval_dir=folder / "shards" / "eval",
        rows=rows,
        quality=Quality(),
        gate=Gate(),
    )


def prepare_conversations(
    data: Conversations, folder: Path, *, stream: Stream | None = None
) -> Path:
    """The encoded shards of ``data`` in ``folder``; needs Ray. Evaluation has one row."""
    few = folder / "few.jsonl"
    few.write_text(data.path.read_text(encoding="utf-8").splitlines()[0] + "\n")
    prepare(
        data.task,
        Splits(train=Jsonl(path=str(data.path)), eval=Jsonl(path=str(few))),
        processor_dir=data.model_dir,
        out_dir=folder / "shards",
        num_tasks=1,
        stream=stream,
    )
    return folder / "shards"


def train_steps(
    data: Conversations,
    train: Train,
    shards: Path,
    out_dir: Path,
    *,
    name: str,
    stream: Stream | None = None,
) -> list[Mapping[str, Any]]:
    """The records of a whole run on Ray."""
    records: list[Mapping[str, Any]] = []
    train_model(
        {"reply": data.task},
        train,
        model=str(data.model_dir),
        processor=str(data.model_dir),
        data_dirs={"reply": shards},
        out_dir=out_dir,
        name=name,
        on_record=records.append,
        stream=stream,
    )
    return records


def steps_of(records: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The optimizer steps among the records of a run."""
    return [record for record in records if record["event"] == "step"]
