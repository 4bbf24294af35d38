"""A tiny real instance of every member of our unions, for the laws in tests/contract.

One function for each member; `TASKS`, `PASSES` name them. A member without a factory fails the
contract tests by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
)

from ray_sft.compression import AnyPass, ExportOnnx, Pass, QuantizeInt4, QuantizeInt8
from ray_sft.models import train_tokenizer
from ray_sft.tasks import AnyTask, CausalLanguageModel, Processor, Row, SequenceClassification, Task

TEXTS = (
    "Where is my parcel? It was due on Monday 12 May.",
    "I want a refund.",
    "My card was declined twice in the shop today, please help me with it.",
    "转账还没有到账，请帮我查一下。",
    "Thanks, that solved it! \U0001f600",
    "Close my account",
)
LABELS = ("account", "card", "parcel", "refund", "thanks", "transfer")


@dataclass(frozen=True, slots=True)
class TaskCase:
    """A task with rows of different lengths and a model that can be trained on them."""

    task: Task
    rows: tuple[Row, ...]
    """With labels."""
    unlabelled: tuple[Row, ...]
    """As a service gets them; empty where the task has no such thing."""
    model: torch.nn.Module
    processor: Processor


@cache
def tiny_processor() -> Processor:
    return train_tokenizer(TEXTS * 20, vocab_size=420)


def tiny_encoder(num_labels: int) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tiny_processor()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=num_labels,
        initializer_range=0.3,  # far from flat, so that a wrong token shows in the loss
        pad_token_id=tiny_processor().pad_token_id,
    )
    return BertForSequenceClassification(config).eval()


def tiny_decoder(*, attention: str = "sdpa") -> LlamaForCausalLM:
    torch.manual_seed(0)
    processor = tiny_processor()
    config = LlamaConfig(
        vocab_size=len(processor),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=processor.bos_token_id,
        eos_token_id=processor.eos_token_id,
        pad_token_id=processor.pad_token_id,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config).eval()


def conversation(*turns: str, system: str = "") -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
    return {"messages": [{"role": "system", "content": system}, *messages] if system else messages}


def sequence_classification() -> TaskCase:
    return TaskCase(
        task=SequenceClassification(labels=LABELS, max_length=64),
        rows=tuple(
            {"text": text, "label": label}
            for text, label in zip(
                TEXTS,
                ("parcel", "refund", "card", "transfer", "thanks", "account"),
                strict=True,
            )
        ),
        unlabelled=tuple({"text": text} for text in TEXTS),
        model=tiny_encoder(len(LABELS)),
        processor=tiny_processor(),
    )


def causal_language_model() -> TaskCase:
    rows = (
        conversation(TEXTS[0], "Let me look.", TEXTS[1], "It is on its way."),
        conversation(TEXTS[3], "好的。", system="Be brief."),
        conversation(TEXTS[5], "Done."),
        conversation(TEXTS[2], "I am sorry to hear that. Which card is it, and which shop?"),
    )
    return TaskCase(
        task=CausalLanguageModel(max_length=256),
        rows=rows,
        unlabelled=(),
        model=tiny_decoder(),
        processor=tiny_processor(),
    )


TASKS: dict[type[Task], Callable[[], TaskCase]] = {
    SequenceClassification: sequence_classification,
    CausalLanguageModel: causal_language_model,
}

PASSES: dict[type[Pass], Callable[[], Pass]] = {
    ExportOnnx: ExportOnnx,
    QuantizeInt8: QuantizeInt8,
    QuantizeInt4: QuantizeInt4,
}


def members(union: Any) -> tuple[type, ...]:
    """The classes of a tagged union such as `AnyTask`."""
    return get_args(get_args(union)[0])


TASK_TYPES: tuple[type[Task], ...] = members(AnyTask)
PASS_TYPES: tuple[type[Pass], ...] = members(AnyPass)
