"""Sequence classification: one label out of a fixed list for a text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, Field, field_validator

from ray_sft.core import DataError
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
from ray_sft.tasks.token_ids import token_ids

__all__ = ["ClassificationRequest", "ClassificationResponse", "SequenceClassification"]


class ClassificationRequest(BaseModel):
    """One text to classify."""

    text: str = Field(min_length=1)


class LabelScore(BaseModel):
    """A label and its probability."""

    label: str
    score: float


class ClassificationResponse(BaseModel):
    """The most probable label, its probability, and the probabilities of all labels."""

    label: str
    score: float
    scores: list[LabelScore]
    """Every label, most probable first."""


class ClassificationMetrics(Metrics):
    """Accuracy, macro-averaged F1 over the labels that occur, and mean loss in nats."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Counts for a list of ``labels``, empty at first."""
        self.labels = tuple(labels)
        self.index = {label: position for position, label in enumerate(labels)}
        self.confusion = np.zeros((len(labels), len(labels)), dtype=np.int64)
        self.loss_sum = 0.0

    def update(self, responses: Sequence[BaseModel], examples: Sequence[Example]) -> None:
        """See `Metrics.update`; examples without a label are not counted."""
        for response, example in zip(responses, examples, strict=True):
            assert isinstance(response, ClassificationResponse)
            target = int(example.arrays["labels"]) if "labels" in example.arrays else IGNORED
            if target == IGNORED:
                continue
            scores = {item.label: item.score for item in response.scores}
            self.confusion[target, self.index[response.label]] += 1
            self.loss_sum -= float(np.log(max(scores[self.labels[target]], 1e-30)))

    def merge(self, other: Self) -> None:
        """See `Metrics.merge`."""
        self.confusion += other.confusion
        self.loss_sum += other.loss_sum

    def compute(self) -> dict[str, float]:
        """``accuracy``, ``macro_f1``, ``loss`` and ``num_rows``."""
        total = int(self.confusion.sum())
        if total == 0:
            nan = float("nan")
            return {"accuracy": nan, "macro_f1": nan, "loss": nan, "num_rows": 0.0}
        hits = np.diag(self.confusion)
        support, predicted = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        seen = (support + predicted) > 0
        f1 = 2 * hits[seen] / (support + predicted)[seen]
        return {
            "accuracy": float(hits.sum() / total),
            "macro_f1": float(f1.mean()),
            "loss": self.loss_sum / total,
            "num_rows": float(total),
        }


class SequenceClassification(Task):
    """One label out of a fixed list for a text."""

    columns: ClassVar[Mapping[str, str]] = {
        "text": "the text to classify",
        "label": "its label, as a word; not needed for prediction",
    }
    head: ClassVar[Head] = "sequence_classification"
    main_metric: ClassVar[tuple[str, Literal["max", "min"]]] = ("accuracy", "max")
    can_mix: ClassVar[bool] = True
    Request: ClassVar[type[BaseModel]] = ClassificationRequest
    Response: ClassVar[type[BaseModel]] = ClassificationResponse

    kind: Literal["sequence_classification"] = "sequence_classification"
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

    def observed_columns(self) -> tuple[str, ...]:
        """See `Task.observed_columns`."""
        return ("label",)

    def resolve(self, values: Mapping[str, Sequence[str]]) -> Self:
        """This task with its labels, sorted, taken from the training data where it has none.

        Raises:
            DataError: fewer than two labels, or labels in the data that the recipe leaves out.
        """
        found = sorted(values["label"])
        if self.labels:
            self.check_values(values, split="train")
            return self
        if len(found) < 2:
            raise DataError(
                f"the training data has {len(found)} distinct label(s): {found}. "
                "Classification needs at least two."
            )
        return self.model_copy(update={"labels": tuple(found)})

    def check_values(self, values: Mapping[str, Sequence[str]], *, split: str) -> None:
        """Raises DataError where ``split`` has labels that the task does not know."""
        for label in sorted(set(values["label"]) - set(self.labels)):
            near = get_close_matches(label, self.labels, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            known = ", ".join(self.labels[:8]) + (", ..." if len(self.labels) > 8 else "")
            raise DataError(
                f"the {split} data has label '{label}', which the {len(self.labels)} labels of "
                f"the task do not hold ({known}).{hint} Add training rows for it, rename it, or "
                "leave its rows out."
            )

    def model_options(self) -> dict[str, Any]:
        """See `Task.model_options`."""
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: index for index, label in enumerate(self.labels)},
        }

    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """``input_ids`` (tokens,) and, where the row has a label, ``labels`` ()."""
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
        if row.get("label") not in (None, ""):
            label = str(row["label"])
            if label not in index:
                return Rejected(f"label '{label}' is not one of the task's labels")
            arrays["labels"] = np.asarray(index[label], dtype=np.int32)
        return Example(arrays, length=len(ids), truncated=truncated)

    def collate(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """``input_ids`` and ``attention_mask`` (batch, tokens), ``labels`` (batch,)."""
        ids = [example.arrays["input_ids"] for example in examples]
        batch = {
            "input_ids": pad(ids, processor.pad_token_id),
            "attention_mask": pad([np.ones(len(array), dtype=np.int64) for array in ids], 0),
        }
        labels = [int(example.arrays.get("labels", IGNORED)) for example in examples]
        return batch | {"labels": np.asarray(labels, dtype=np.int64)}

    def num_targets(self, batch: Batch) -> int:
        """The number of labelled rows."""
        return int((batch["labels"] != IGNORED).sum())

    def without_targets(self, batch: Batch) -> Batch:
        """See `Task.without_targets`."""
        return batch | {"labels": np.full_like(batch["labels"], IGNORED)}

    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """Summed cross-entropy over labelled rows."""
        labels_B = batch["labels"]
        outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        logits_BC = outputs.logits.float()
        is_target_B = labels_B != IGNORED
        logits_NC, targets_N = logits_BC[is_target_B], labels_B[is_target_B]
        loss_sum = torch.nn.functional.cross_entropy(logits_NC, targets_N, reduction="sum")
        return Loss(loss_sum, len(targets_N), logits_NC, targets_N)

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """``probabilities`` (batch, labels)."""
        logits = model({name: batch[name] for name in ("input_ids", "attention_mask")})["logits"]
        exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return {"probabilities": exponentials / exponentials.sum(axis=-1, keepdims=True)}

    def decode(
        self, outputs: Outputs, examples: Sequence[Example], processor: Processor
    ) -> list[BaseModel]:
        """A `ClassificationResponse` per example."""
        del processor
        return [
            self._response(probabilities)
            for probabilities, _ in zip(outputs["probabilities"], examples, strict=True)
        ]

    def _response(self, probabilities: Array) -> ClassificationResponse:
        order = np.argsort(-probabilities, kind="stable")
        scores = [LabelScore(label=self.labels[i], score=float(probabilities[i])) for i in order]
        return ClassificationResponse(label=scores[0].label, score=scores[0].score, scores=scores)

    def metrics(self) -> Metrics:
        """See `ClassificationMetrics`."""
        return ClassificationMetrics(self.labels)
