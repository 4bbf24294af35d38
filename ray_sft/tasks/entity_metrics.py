"""Figures of entities: one counts as found where its words and its type are right.

After CoNLL's evaluation script (conlleval; Tjong Kim Sang and Buchholz 2000, W00-0726):
precision = correct / predicted, recall = correct / gold, F1 = 2 correct / (predicted + gold), over
the whole set (micro). Deviation: where there is neither a gold nor a predicted entity, the figures
are NaN and not 0, so that a type that never occurs does not look like one that is never found.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
from pydantic import BaseModel

from ray_sft.tasks.base import Array, Example, Metrics
from ray_sft.tasks.entities import EntityResponse
from ray_sft.tasks.entity_tags import entity_spans

__all__ = ["EntityMetrics", "EntityRow", "entity_table"]


class EntityRow(NamedTuple):
    """A line of the table of entities."""

    label: str
    """A type, or ``micro``, ``macro`` or ``weighted``."""
    precision: float
    recall: float
    f1: float
    support: int
    """Gold entities."""


class EntityMetrics(Metrics):
    """Precision, recall and F1 of entities, and the loss of the words' tags in nats."""

    def __init__(self, labels: Sequence[str]) -> None:
        """Counts for a list of ``labels``, empty at first."""
        self.labels = tuple(labels)
        self.index = {label: position for position, label in enumerate(labels)}
        self.correct = np.zeros(len(labels), dtype=np.int64)
        self.predicted = np.zeros(len(labels), dtype=np.int64)
        self.gold = np.zeros(len(labels), dtype=np.int64)
        self.loss_sum = 0.0
        self.num_targets = 0
        self.num_rows = 0

    def update(self, responses: Sequence[BaseModel], examples: Sequence[Example]) -> None:
        """See `Metrics.update`; examples without tags are not counted."""
        for response, example in zip(responses, examples, strict=True):
            assert isinstance(response, EntityResponse)
            if "labels" in example.arrays:
                self._count(response, example.arrays)

    def _count(self, response: EntityResponse, arrays: Mapping[str, Array]) -> None:
        words = arrays["words"].tolist()
        tags = arrays["labels"][arrays["word_starts"]].tolist()
        gold = {(words[span.start], words[span.end - 1], span.label) for span in entity_spans(tags)}
        for entity in response.entities:
            label = self.index[entity.label]
            self.predicted[label] += 1
            self.correct[label] += (entity.first_word, entity.last_word, label) in gold
        for *_, label in gold:
            self.gold[label] += 1
        np.add.at(self.gold, arrays["lost_entities"], 1)
        self.loss_sum += response.loss_sum
        self.num_targets += len(words)
        self.num_rows += 1

    def merge(self, other: Self) -> None:
        """See `Metrics.merge`."""
        self.correct += other.correct
        self.predicted += other.predicted
        self.gold += other.gold
        self.loss_sum += other.loss_sum
        self.num_targets += other.num_targets
        self.num_rows += other.num_rows

    def compute(self) -> dict[str, float]:
        """Figures over all entities, ``loss``, counts, and ``f1[<type>]`` and so on per type.

        ``macro_f1`` is the mean over types with a gold or a predicted entity, ``weighted_f1`` that
        mean weighted by gold entities.
        """
        precision, recall, f1 = _figures(self.correct, self.predicted, self.gold)
        micro = _figures(self.correct.sum(), self.predicted.sum(), self.gold.sum())
        figures = {
            "f1": float(micro[2]),
            "precision": float(micro[0]),
            "recall": float(micro[1]),
            "macro_f1": _mean(f1),
            "weighted_f1": _mean(f1, self.gold),
            "loss": self.loss_sum / self.num_targets if self.num_targets else float("nan"),
            "num_rows": float(self.num_rows),
            "num_entities": float(self.gold.sum()),
        }
        for index, label in enumerate(self.labels):
            figures[f"precision[{label}]"] = float(precision[index])
            figures[f"recall[{label}]"] = float(recall[index])
            figures[f"f1[{label}]"] = float(f1[index])
            figures[f"support[{label}]"] = float(self.gold[index])
        return figures


def entity_table(figures: Mapping[str, float]) -> list[EntityRow]:
    """A line for each type, then ``micro``, ``macro`` and ``weighted``, from what is computed."""
    labels = [name[3:-1] for name in figures if name.startswith("f1[")]
    kinds = ("precision", "recall", "f1")
    lines = [[figures[f"{kind}[{label}]"] for kind in kinds] for label in labels]
    values = np.asarray(lines, dtype=float).reshape(-1, len(kinds))
    support = np.asarray([figures[f"support[{label}]"] for label in labels])
    averages = {
        "micro": [figures[kind] for kind in kinds],
        "macro": [_mean(column) for column in values.T],
        "weighted": [_mean(column, support) for column in values.T],
    }
    rows = [*zip(labels, values.tolist(), support.tolist(), strict=True)]
    rows += [(label, line, support.sum()) for label, line in averages.items()]
    return [
        EntityRow(label, precision, recall, f1, int(count))
        for label, (precision, recall, f1), count in rows
    ]


def _figures(correct: Array, predicted: Array, gold: Array) -> tuple[Array, Array, Array]:
    """Precision, recall and F1; 0 for a missing denominator, NaN where nothing was seen."""
    seen = np.where(predicted + gold > 0, 1.0, np.nan)
    precision = seen * correct / np.maximum(predicted, 1)
    recall = seen * correct / np.maximum(gold, 1)
    return precision, recall, seen * 2 * correct / np.maximum(predicted + gold, 1)


def _mean(values: Array, weights: Array | None = None) -> float:
    """The mean over what was seen; NaN where nothing was, or nothing weighs anything."""
    seen = ~np.isnan(values)
    weights = seen.astype(float) if weights is None else weights * seen
    if not weights.sum():
        return float("nan")
    return float((values[seen] * weights[seen]).sum() / weights.sum())
