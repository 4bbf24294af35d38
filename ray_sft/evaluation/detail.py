"""What lies behind the figures: labels one by one, what is taken for what, and how sure it was.

Tables count decisions: of a tagger these are words, and the tables of whole entities stand beside
them (`ray_sft.tasks.entity_metrics`).
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from ray_sft.core import Config
from ray_sft.evaluation.evaluate import answers
from ray_sft.tasks import Array, Example, Judgement, Processor, Runner, Task

__all__ = ["CalibrationBin", "Detail", "LabelRow", "Mistake", "detail_of", "evaluate_in_detail"]

_BINS = 10
_MISTAKES = 20
_LONGEST_TEXT = 300
_OUTSIDE = "O"
"""Words outside of all entities are no label to be found: averages leave them out."""


class LabelRow(Config):
    """A line of the table of labels."""

    label: str
    """A label, or ``micro``, ``macro`` or ``weighted``."""
    precision: float
    recall: float
    f1: float
    support: int
    """How often it is the right answer."""


class CalibrationBin(Config):
    """Answers of about the same score."""

    confidence: float
    """Their mean score."""
    accuracy: float
    """The share of them that is right."""
    count: int


class Mistake(Config):
    """A wrong answer."""

    text: str
    expected: str
    answered: str
    score: float


class Detail(Config):
    """What lies behind the figures of a task; empty where its answers are no choice of a few."""

    labels: tuple[LabelRow, ...] = ()
    """A line for each label, then the averages."""
    confusion: dict[str, dict[str, int]] = Field(default_factory=dict)
    """By right answer and the model's, how often."""
    calibration: tuple[CalibrationBin, ...] = ()
    """By ten ranges of the score; those without an answer left out."""
    expected_calibration_error: float = float("nan")
    """The mean distance of score and accuracy over the ranges, by their counts (Guo et al. 2017,
    arXiv:1706.04599, eq. 3)."""
    mistakes: tuple[Mistake, ...] = ()
    """The wrong answers with the highest scores."""


def evaluate_in_detail(
    task: Task, runner: Runner, processor: Processor, examples: Sequence[Example]
) -> tuple[dict[str, float], Detail]:
    """The figures of `evaluate`, and what lies behind them, from one pass."""
    metrics = task.metrics()
    judgements: list[Judgement] = []
    for responses, chosen in answers(task, runner, processor, examples):
        metrics.update(responses, chosen)
        judgements += task.judgements(responses, chosen, processor)
    return metrics.compute(), detail_of(judgements)


def detail_of(judgements: Sequence[Judgement]) -> Detail:
    """The tables of some decisions."""
    if not judgements:
        return Detail()
    pairs = Counter((one.expected, one.answered) for one in judgements)
    labels = sorted({label for pair in pairs for label in pair})
    counts = np.array([[pairs[one, other] for other in labels] for one in labels])
    bins, error = _calibration([one for one in judgements if not np.isnan(one.score)])
    wrong = [one for one in judgements if one.expected != one.answered]
    wrong.sort(key=lambda one: (-np.nan_to_num(one.score), one.text))
    return Detail(
        labels=_label_rows(labels, counts),
        confusion={
            one: {labels[place]: int(row[place]) for place in np.flatnonzero(row)}
            for one, row in zip(labels, counts, strict=True)
        },
        calibration=bins,
        expected_calibration_error=error,
        mistakes=tuple(
            Mistake(
                text=one.text[:_LONGEST_TEXT],
                expected=one.expected,
                answered=one.answered,
                score=one.score,
            )
            for one in wrong[:_MISTAKES]
        ),
    )


def _label_rows(labels: Sequence[str], counts_LL: Array) -> tuple[LabelRow, ...]:
    """Precision, recall and F1 of every label, and their averages; 0 where nothing is found."""
    kept = [place for place, label in enumerate(labels) if label != _OUTSIDE]
    hits_L = np.diag(counts_LL)[kept]
    support_L, answered_L = counts_LL.sum(axis=1)[kept], counts_LL.sum(axis=0)[kept]
    lines_L3 = _lines(hits_L, answered_L, support_L)
    weights_L = support_L if support_L.any() else None
    whole = [part.sum(keepdims=True) for part in (hits_L, answered_L, support_L)]
    averages = {
        "micro": _lines(*whole)[0],
        "macro": lines_L3.mean(axis=0),
        "weighted": np.average(lines_L3, axis=0, weights=weights_L),
    }
    rows = [(labels[place], *row) for place, *row in zip(kept, lines_L3, support_L, strict=True)]
    rows += [(name, line_3, support_L.sum()) for name, line_3 in averages.items()]
    return tuple(
        LabelRow(
            label=label,
            precision=float(line_3[0]),
            recall=float(line_3[1]),
            f1=float(line_3[2]),
            support=int(count),
        )
        for label, line_3, count in rows
    )


def _lines(hits_N: Array, answered_N: Array, support_N: Array) -> Array:
    """Precision, recall and F1, (labels, 3)."""
    parts_N3 = np.stack([hits_N, hits_N, 2 * hits_N], axis=1).astype(float)
    wholes_N3 = np.stack([answered_N, support_N, answered_N + support_N], axis=1)
    lines_N3: Array = np.zeros_like(parts_N3)
    np.divide(parts_N3, wholes_N3, out=lines_N3, where=wholes_N3 > 0)
    return lines_N3


def _calibration(judgements: Sequence[Judgement]) -> tuple[tuple[CalibrationBin, ...], float]:
    if not judgements:
        return (), float("nan")
    scores = np.array([one.score for one in judgements])
    right = np.array([one.expected == one.answered for one in judgements])
    places = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    bins = tuple(
        CalibrationBin(
            confidence=float(scores[places == place].mean()),
            accuracy=float(right[places == place].mean()),
            count=int((places == place).sum()),
        )
        for place in np.unique(places)
    )
    gaps = sum(one.count * abs(one.confidence - one.accuracy) for one in bins)
    return bins, gaps / len(judgements)
