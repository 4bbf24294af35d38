"""Multi-label classification: any number of labels out of a fixed list for a text.

Each label is a decision of its own. A logit z is handed on as the two logits (0, z) of a decision,
whose cross-entropy is the binary one, so that every objective works on decisions as on classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, Field

from ray_sft.tasks.base import (
    IGNORED,
    Array,
    Batch,
    Example,
    Loss,
    Metrics,
    Outputs,
    Processor,
    Rejected,
    Runner,
    TensorBatch,
)
from ray_sft.tasks.labelled_text import LabelledText, LabelScore, score_trees

__all__ = ["MultiLabelClassification", "MultiLabelResponse"]


class MultiLabelResponse(BaseModel):
    """The labels that apply, most probable first, and the probability of every label."""

    labels: list[str]
    scores: list[LabelScore]
    """Every label, most probable first; they do not sum to one."""


class MultiLabelMetrics(Metrics):
    """F1 over all decisions and averaged over labels, rows that are right as a whole, and loss."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Counts for a list of ``labels``, empty at first."""
        self.labels = tuple(labels)
        self.hits = np.zeros(len(labels), dtype=np.int64)
        self.support = np.zeros(len(labels), dtype=np.int64)
        self.predicted = np.zeros(len(labels), dtype=np.int64)
        self.num_rows = 0
        self.num_exact = 0
        self.loss_sum = 0.0

    def update(self, responses: Sequence[BaseModel], examples: Sequence[Example]) -> None:
        """See `Metrics.update`; examples without labels are not counted."""
        for response, example in zip(responses, examples, strict=True):
            assert isinstance(response, MultiLabelResponse)
            wanted = example.arrays.get("labels")
            if wanted is None or (wanted == IGNORED).any():
                continue
            scores = {item.label: item.score for item in response.scores}
            chance = np.asarray([scores[label] for label in self.labels])
            found = np.isin(self.labels, response.labels)
            is_set = wanted == 1
            self.hits += found & is_set
            self.support += is_set
            self.predicted += found
            self.num_rows += 1
            self.num_exact += int((found == is_set).all())
            right = np.where(is_set, chance, 1 - chance)
            self.loss_sum -= float(np.log(np.maximum(right, 1e-30)).sum())

    def merge(self, other: Self) -> None:
        """See `Metrics.merge`."""
        self.hits += other.hits
        self.support += other.support
        self.predicted += other.predicted
        self.num_rows += other.num_rows
        self.num_exact += other.num_exact
        self.loss_sum += other.loss_sum

    def compute(self) -> dict[str, float]:
        """``micro_f1``, ``macro_f1`` over labels that occur, ``exact``, ``loss`` a decision."""
        if self.num_rows == 0:
            nan = float("nan")
            return {"micro_f1": nan, "macro_f1": nan, "exact": nan, "loss": nan, "num_rows": 0.0}
        total = self.support + self.predicted
        seen = total > 0  # where nothing was asked for and nothing given, all is right
        return {
            "micro_f1": float(2 * self.hits.sum() / total.sum()) if seen.any() else 1.0,
            "macro_f1": float((2 * self.hits[seen] / total[seen]).mean()) if seen.any() else 1.0,
            "exact": self.num_exact / self.num_rows,
            "loss": self.loss_sum / (self.num_rows * len(self.labels)),
            "num_rows": float(self.num_rows),
        }


class MultiLabelClassification(LabelledText):
    """Any number of labels out of a fixed list for a text."""

    columns: ClassVar[Mapping[str, str]] = {
        "text": "the text to classify",
        "labels": "its labels: a list, or words between separators; empty where none applies",
    }
    label_column: ClassVar[str] = "labels"
    main_metric: ClassVar[tuple[str, Literal["max", "min"]]] = ("micro_f1", "max")
    Response: ClassVar[type[BaseModel]] = MultiLabelResponse

    kind: Literal["multi_label_classification"] = "multi_label_classification"
    separator: str = Field(default="|", min_length=1)
    """What stands between labels where a row has them as one text."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """The probability from which a label applies."""

    def names_in(self, value: object) -> list[str]:
        """See `LabelledText.names_in`; a value is a list, or a text of labels and separators."""
        items = value if isinstance(value, list) else str(value or "").split(self.separator)
        return [name for name in (str(item).strip() for item in items) if name]

    def label_array(self, value: object, index: Mapping[str, int]) -> Array | Rejected | None:
        """1 for each label that applies and 0 for the others, (labels,); none may apply."""
        if value is None:
            return None
        names = self.names_in(value)
        if unknown := [name for name in names if name not in index]:
            return Rejected(f"label '{unknown[0]}' is not one of the task's labels")
        flags = np.zeros(len(self.labels), dtype=np.int32)
        flags[[index[name] for name in names]] = 1
        return flags

    def model_options(self) -> dict[str, Any]:
        """See `Task.model_options`."""
        return super().model_options() | {"problem_type": "multi_label_classification"}

    def collate(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """``input_ids`` and ``attention_mask`` (batch, tokens), ``labels`` (batch, labels)."""
        unknown = np.full(len(self.labels), IGNORED, dtype=np.int64)
        labels = [example.arrays.get("labels", unknown) for example in examples]
        return self.inputs(examples, processor) | {"labels": np.stack(labels).astype(np.int64)}

    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """Summed binary cross-entropy of all decisions."""
        labels_BL = batch["labels"]
        outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        is_target_BL = labels_BL != IGNORED
        logits_N = outputs.logits.float()[is_target_BL]
        targets_N = labels_BL[is_target_BL]
        logits_N2 = torch.stack((torch.zeros_like(logits_N), logits_N), dim=1)
        loss_sum = torch.nn.functional.cross_entropy(logits_N2, targets_N, reduction="sum")
        return Loss(loss_sum, len(targets_N), logits_N2, targets_N)

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """``probabilities`` (batch, labels)."""
        logits = model({name: batch[name] for name in ("input_ids", "attention_mask")})["logits"]
        return {"probabilities": np.exp(-np.logaddexp(0, -logits))}

    def response(self, ranked: Sequence[tuple[str, float]]) -> MultiLabelResponse:
        """See `LabelledText.response`."""
        applying = [label for label, score in ranked if score >= self.threshold]
        return MultiLabelResponse.model_validate(
            {"labels": applying, "scores": score_trees(ranked)}
        )

    def metrics(self) -> Metrics:
        """See `MultiLabelMetrics`."""
        return MultiLabelMetrics(self.labels)
