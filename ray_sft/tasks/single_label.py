"""What tasks share that give a text exactly one label out of a list."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel

from ray_sft.tasks.base import (
    IGNORED,
    Array,
    Example,
    Judgement,
    Metrics,
    Processor,
    Rejected,
)
from ray_sft.tasks.labelled_text import LabelledText, LabelScore, score_trees

__all__ = ["ClassificationMetrics", "ClassificationResponse", "SingleLabel"]


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


class SingleLabel(LabelledText):
    """A text and a list of labels, of which one applies."""

    columns: ClassVar[Mapping[str, str]] = {
        "text": "the text to classify",
        "label": "its label, as a word; not needed for prediction",
    }
    label_column: ClassVar[str] = "label"
    main_metric: ClassVar[tuple[str, Literal["max", "min"]]] = ("accuracy", "max")
    Response: ClassVar[type[BaseModel]] = ClassificationResponse

    def names_in(self, value: object) -> list[str]:
        """See `LabelledText.names_in`; a value is a label."""
        return [] if value in (None, "") else [str(value)]

    def label_array(self, value: object, index: Mapping[str, int]) -> Array | Rejected | None:
        """The label's number, ()."""
        if value in (None, ""):
            return None
        if str(value) not in index:
            return Rejected(f"label '{value}' is not one of the task's labels")
        return np.asarray(index[str(value)], dtype=np.int32)

    def label_numbers(self, examples: Sequence[Example]) -> Array:
        """``labels`` of a batch, (batch,); -100 where a row has none."""
        labels = [int(example.arrays.get("labels", IGNORED)) for example in examples]
        return np.asarray(labels, dtype=np.int64)

    def response(self, ranked: Sequence[tuple[str, float]]) -> ClassificationResponse:
        """See `LabelledText.response`."""
        label, score = ranked[0]
        return ClassificationResponse.model_validate(
            {"label": label, "score": score, "scores": score_trees(ranked)}
        )

    def judgements(
        self, responses: Sequence[BaseModel], examples: Sequence[Example], processor: Processor
    ) -> list[Judgement]:
        """See `Task.judgements`; one for each labelled row."""
        found = []
        for response, example in zip(responses, examples, strict=True):
            assert isinstance(response, ClassificationResponse)
            if "labels" in example.arrays:
                text = processor.decode(example.arrays["input_ids"], skip_special_tokens=True)
                expected = self.labels[int(example.arrays["labels"])]
                found.append(Judgement(expected, response.label, response.score, text))
        return found

    def metrics(self) -> Metrics:
        """See `ClassificationMetrics`."""
        return ClassificationMetrics(self.labels)
