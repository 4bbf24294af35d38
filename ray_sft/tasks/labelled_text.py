"""What tasks share that give a text labels out of a fixed list."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, Field, field_validator

from ray_sft.core import DataError
from ray_sft.tasks.base import (
    IGNORED,
    Array,
    Batch,
    Encoded,
    Example,
    Head,
    Outputs,
    Processor,
    Rejected,
    Row,
    Task,
    pad,
)
from ray_sft.tasks.token_ids import token_ids

__all__ = [
    "ClassificationRequest",
    "LabelScore",
    "LabelledText",
    "score_trees",
    "softmax",
    "with_new",
]


def with_new(known: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """``known`` labels in their places, and those of ``labels`` that are new behind them."""
    return tuple(dict.fromkeys([*known, *labels]))


def softmax(logits: Array) -> Array:
    """Probabilities along the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return found


class ClassificationRequest(BaseModel):
    """One text to classify."""

    text: str = Field(min_length=1)


class LabelScore(BaseModel):
    """A label and its probability."""

    label: str
    score: float


class LabelledText(Task):
    """A text and a list of labels, of which one or several apply."""

    head: ClassVar[Head] = "sequence_classification"
    Request: ClassVar[type[BaseModel]] = ClassificationRequest
    label_column: ClassVar[str]
    """The column that holds a row's label or labels."""

    labels: tuple[str, ...] = ()
    """The labels in the order of the model's outputs; read from the training data when empty."""
    max_length: int = Field(default=128, ge=4, le=8192)
    """The longest text in tokens; training and evaluation cut longer ones and count them."""

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted(label for label, count in Counter(labels).items() if count > 1):
            raise ValueError(f"label '{twice[0]}' stands twice")
        if len(labels) == 1 or not all(label.strip() for label in labels):
            raise ValueError("name two labels or more, none of them empty, or leave them out")
        return labels

    @abstractmethod
    def names_in(self, value: object) -> list[str]:
        """The labels that a value of the label column names."""

    @abstractmethod
    def label_array(self, value: object, index: Mapping[str, int]) -> Array | Rejected | None:
        """What training learns of a value of the label column; None where the row has no label."""

    def observed_columns(self) -> tuple[str, ...]:
        """See `Task.observed_columns`."""
        return (self.label_column,)

    def resolve(self, values: Mapping[str, Sequence[str]], former: Self | None = None) -> Self:
        """This task with its labels, sorted, taken from the training data where it has none.

        Those of ``former`` stand before them.

        Raises:
            DataError: fewer than two labels, or labels in the data that the recipe leaves out.
        """
        if self.labels:
            self.check_values(values, split="train")
        known = former.labels if former else ()
        labels = with_new(known, self.labels or self._names(values))
        if len(labels) < 2:
            raise DataError(
                f"the training data has {len(labels)} distinct label(s): {list(labels)}. "
                "Classification needs at least two."
            )
        return self if labels == self.labels else self.model_copy(update={"labels": labels})

    def check_values(self, values: Mapping[str, Sequence[str]], *, split: str) -> None:
        """Raises DataError where ``split`` has labels that the task does not know."""
        for label in sorted(set(self._names(values)) - set(self.labels)):
            near = get_close_matches(label, self.labels, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            known = ", ".join(self.labels[:8]) + (", ..." if len(self.labels) > 8 else "")
            raise DataError(
                f"the {split} data has label '{label}', which the {len(self.labels)} labels of "
                f"the task do not hold ({known}).{hint} Add training rows for it, rename it, or "
                "leave its rows out."
            )

    def _names(self, values: Mapping[str, Sequence[str]]) -> list[str]:
        return sorted(
            {name for value in values[self.label_column] for name in self.names_in(value)}
        )

    def model_options(self) -> dict[str, Any]:
        """See `Task.model_options`."""
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: index for index, label in enumerate(self.labels)},
        }

    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """``input_ids`` (tokens,) and, where the row has one, what `label_array` makes of it."""
        texts = [row.get("text") for row in rows]
        usable = [text for text in texts if isinstance(text, str) and text.strip()]
        encoded = iter(token_ids(usable, processor, add_special_tokens=True))
        index = {label: position for position, label in enumerate(self.labels)}
        special = frozenset(processor.all_special_ids)  # the unknown token is one of them
        return [
            self._example(row, next(encoded), index, special)
            if isinstance(text, str) and text.strip()
            else Rejected("text is missing or empty")
            for row, text in zip(rows, texts, strict=True)
        ]

    def _example(
        self, row: Row, ids: list[int], index: Mapping[str, int], special: frozenset[int]
    ) -> Encoded:
        truncated = max(0, len(ids) - self.max_length)
        if truncated and ids[-1] in special:  # as the tokenizer's own truncation does
            ids = [*ids[: self.max_length - 1], ids[-1]]
        elif truncated:
            ids = ids[: self.max_length]
        if special.issuperset(ids):
            return Rejected("text holds nothing that the tokenizer knows")
        arrays: dict[str, Array] = {"input_ids": np.asarray(ids, dtype=np.int32)}
        labels = self.label_array(row.get(self.label_column), index)
        if isinstance(labels, Rejected):
            return labels
        if labels is not None:
            arrays["labels"] = labels
        return Example(arrays, length=len(ids), truncated=truncated)

    def inputs(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """``input_ids`` and ``attention_mask`` (batch, tokens), padded on the right."""
        ids = [example.arrays["input_ids"] for example in examples]
        return {
            "input_ids": pad(ids, processor.pad_token_id),
            "attention_mask": pad([np.ones(len(array), dtype=np.int64) for array in ids], 0),
        }

    def num_targets(self, batch: Batch) -> int:
        """The number of labelled rows; of decisions where every label is one."""
        return int((batch["labels"] != IGNORED).sum())

    def without_targets(self, batch: Batch) -> Batch:
        """See `Task.without_targets`."""
        return batch | {"labels": np.full_like(batch["labels"], IGNORED)}

    def decode(
        self, outputs: Outputs, examples: Sequence[Example], processor: Processor
    ) -> list[BaseModel]:
        """The response that `response` makes of each example's labels."""
        del processor
        chances_BC = outputs["probabilities"]
        assert len(chances_BC) == len(examples)
        # for the whole batch at once: each call of NumPy may hand the interpreter to another thread
        order_BC = np.argsort(-chances_BC, axis=-1, kind="stable")
        sorted_BC = np.take_along_axis(chances_BC, order_BC, axis=-1)
        return [
            self.response([(self.labels[i], chance) for i, chance in zip(*ranked, strict=True)])
            for ranked in zip(order_BC.tolist(), sorted_BC.tolist(), strict=True)
        ]

    @abstractmethod
    def response(self, ranked: Sequence[tuple[str, float]]) -> BaseModel:
        """The answer that every label with its probability, most probable first, stands for."""


def score_trees(ranked: Sequence[tuple[str, float]]) -> list[dict[str, object]]:
    """What a list of `LabelScore` is read from, at less cost than making them one by one."""
    return [{"label": label, "score": score} for label, score in ranked]
