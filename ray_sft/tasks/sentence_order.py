"""Sentence order: an encoder learns how a text goes on by telling whether its halves are swapped.

Lan et al. 2020, "ALBERT: A Lite BERT for Self-supervised Learning of Language Representations",
arXiv:1909.11942, section 3.1: two consecutive segments of a text are a positive example, the same
two in the other order a negative one. Training draws the order anew in every epoch; evaluation
has every text in one order, chosen by the text itself.

A text is parted where a sentence ends, as near to its middle as can be.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, Field

from ray_sft.core.sentences import sentence_spans
from ray_sft.tasks.base import (
    IGNORED,
    Array,
    Batch,
    Encoded,
    Example,
    Head,
    Loss,
    Metrics,
    Outputs,
    Processor,
    Rejected,
    Row,
    Runner,
    Task,
    TensorBatch,
    pad,
)
from ray_sft.tasks.labelled_text import softmax
from ray_sft.tasks.masked_language_model import TextRequest
from ray_sft.tasks.token_ids import edge_ids, token_ids

__all__ = ["OrderResponse", "SentenceOrder"]

_NO_TEXT = "text is missing or empty"
_SWAPPED, _IN_ORDER = 0, 1


class OrderResponse(BaseModel):
    """How probable it is that the parts stand as they were written."""

    in_order: float


class OrderMetrics(Metrics):
    """Accuracy and mean loss in nats."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.losses: list[float] = []
        self.num_right = 0

    def update(self, responses: Sequence[BaseModel], examples: Sequence[Example]) -> None:
        """See `Metrics.update`."""
        for response, example in zip(responses, examples, strict=True):
            assert isinstance(response, OrderResponse)
            is_in_order = int(example.arrays["labels"]) == _IN_ORDER
            chance = response.in_order if is_in_order else 1 - response.in_order
            self.losses.append(-float(np.log(max(chance, 1e-30))))
            self.num_right += (response.in_order > 0.5) == is_in_order

    def merge(self, other: Self) -> None:
        """See `Metrics.merge`."""
        self.losses += other.losses
        self.num_right += other.num_right

    def compute(self) -> dict[str, float]:
        """``accuracy``, ``loss`` and ``num_rows``."""
        count = len(self.losses)
        return {
            "accuracy": self.num_right / count if count else float("nan"),
            "loss": float(np.sort(self.losses).mean()) if count else float("nan"),
            "num_rows": float(count),
        }


class SentenceOrder(Task):
    """Whether the two parts of a text stand in their order, to pre-train an encoder."""

    columns: ClassVar[Mapping[str, str]] = {"text": "running text of two sentences or more"}
    head: ClassVar[Head] = "sequence_classification"
    main_metric: ClassVar[tuple[str, Literal["max", "min"]]] = ("accuracy", "max")
    Request: ClassVar[type[BaseModel]] = TextRequest
    Response: ClassVar[type[BaseModel]] = OrderResponse

    kind: Literal["sentence_order"] = "sentence_order"
    max_length: int = Field(default=128, ge=8, le=8192)
    """Both parts together in tokens; longer texts lose what is farthest from where they part."""

    def model_options(self) -> dict[str, Any]:
        """See `Task.model_options`."""
        return {"num_labels": 2}

    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """``input_ids`` (tokens,), ``second`` (), where the second part begins, and ``labels``."""
        texts = [row.get("text") for row in rows]
        halves = [_halves(text) if isinstance(text, str) else None for text in texts]
        parts = [part for pair in halves if pair for part in pair]
        encoded = iter(token_ids(parts, processor, add_special_tokens=False))
        return [
            self._example(next(encoded), next(encoded), processor)
            if pair
            else Rejected("text has a single sentence" if _is_text(text) else _NO_TEXT)
            for text, pair in zip(texts, halves, strict=True)
        ]

    def _example(self, first: list[int], second: list[int], processor: Processor) -> Encoded:
        special = frozenset(processor.all_special_ids)
        if special.issuperset(first) or special.issuperset(second):
            return Rejected("a part of the text holds nothing that the tokenizer knows")
        start, end = edge_ids(processor)
        room = self.max_length - len(start) - 2 * len(end)
        num_first = min(len(first), max(room // 2, room - len(second)))
        kept = first[-num_first:], second[: room - num_first]
        truncated = len(first) + len(second) - len(kept[0]) - len(kept[1])
        digest = hashlib.sha256(np.asarray(first + second).tobytes()).digest()
        arrays = _joined(*kept, start, end, swapped=bool(digest[0] % 2))
        return Example(arrays, len(arrays["input_ids"]), truncated)

    def resample(self, example: Example, processor: Processor, rng: np.random.Generator) -> Example:
        """See `Task.resample`: the order is drawn anew."""
        start, end = edge_ids(processor)
        ids, place = example.arrays["input_ids"].tolist(), int(example.arrays["second"])
        parts = ids[len(start) : place - len(end)], ids[place : len(ids) - len(end)]
        if int(example.arrays["labels"]) == _SWAPPED:
            parts = parts[1], parts[0]
        arrays = _joined(*parts, start, end, swapped=bool(rng.integers(2)))
        return Example(arrays, example.length, example.truncated)

    def collate(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """``input_ids`` and ``attention_mask`` (batch, tokens), ``labels`` (batch,)."""
        ids = [example.arrays["input_ids"] for example in examples]
        labels = [int(example.arrays["labels"]) for example in examples]
        return {
            "input_ids": pad(ids, processor.pad_token_id),
            "attention_mask": pad([np.ones(len(array), dtype=np.int64) for array in ids], 0),
            "labels": np.asarray(labels, dtype=np.int64),
        }

    def num_targets(self, batch: Batch) -> int:
        """The number of texts."""
        return int((batch["labels"] != IGNORED).sum())

    def without_targets(self, batch: Batch) -> Batch:
        """See `Task.without_targets`."""
        return batch | {"labels": np.full_like(batch["labels"], IGNORED)}

    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """Summed cross-entropy over texts."""
        outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        is_target_B = batch["labels"] != IGNORED
        logits_N2, targets_N = outputs.logits.float()[is_target_B], batch["labels"][is_target_B]
        loss_sum = torch.nn.functional.cross_entropy(logits_N2, targets_N, reduction="sum")
        return Loss(loss_sum, len(targets_N), logits_N2, targets_N)

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """``in_order`` (batch,), a probability."""
        logits = model({name: batch[name] for name in ("input_ids", "attention_mask")})["logits"]
        return {"in_order": softmax(logits)[:, _IN_ORDER]}

    def decode(
        self, outputs: Outputs, examples: Sequence[Example], processor: Processor
    ) -> list[BaseModel]:
        """One probability per example."""
        del processor
        return [
            OrderResponse(in_order=float(chance))
            for chance, _ in zip(outputs["in_order"], examples, strict=True)
        ]

    def metrics(self) -> Metrics:
        """See `OrderMetrics`."""
        return OrderMetrics()


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _halves(text: str) -> tuple[str, str] | None:
    """A text parted where a sentence begins, nearest to its middle; None where only one does."""
    starts = [start for start, _ in sentence_spans(text)][1:]
    if not starts:
        return None
    place = min(starts, key=lambda start: abs(2 * start - len(text)))
    return text[:place].strip(), text[place:].strip()


def _joined(
    first: list[int], second: list[int], start: list[int], end: list[int], *, swapped: bool
) -> dict[str, Array]:
    one, two = (second, first) if swapped else (first, second)
    return {
        "input_ids": np.asarray([*start, *one, *end, *two, *end], dtype=np.int32),
        "second": np.asarray(len(start) + len(one) + len(end), dtype=np.int32),
        "labels": np.asarray(_SWAPPED if swapped else _IN_ORDER, dtype=np.int32),
    }
