"""What two bundles of one name say of the same input, and how far they are apart.

A figure is a number that says how alike two answers are; a mean, the least and the most are kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, TypeAlias

import numpy as np
from pydantic import BaseModel, Field

from ray_sft.core import Config
from ray_sft.tasks.embedding import EmbeddingResponse
from ray_sft.tasks.entities import EntityResponse
from ray_sft.tasks.labelled_text import LabelScore
from ray_sft.tasks.multi_label_classification import MultiLabelResponse
from ray_sft.tasks.ranking import RankingResponse
from ray_sft.tasks.single_label import ClassificationResponse
from serve.served import TranslatedText

__all__ = ["Agreement", "AgreementReport", "Difference", "FigureReport", "compare", "compare_texts"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One input, answered twice."""

    agrees: bool | None
    """Whether both say the same; None where that is no question, as with vectors."""
    figures: Mapping[str, float] = field(default_factory=dict)


def compare(current: Sequence[BaseModel], candidate: Sequence[BaseModel]) -> list[Difference]:
    """The difference of each pair of answers to the rows of one request.

    A request with several rows of a ranking model is one question: how like the two orders are.
    """
    pairs = list(zip(current, candidate, strict=True))
    if pairs and all(isinstance(one, RankingResponse) for pair in pairs for one in pair):
        return _rankings(pairs)
    return [_difference(one, other) for one, other in pairs]


def compare_texts(current: str, candidate: str) -> Difference:
    """The difference of two generated texts: how much of the longer one both begin with."""
    longest = max(len(current), len(candidate))
    pairs = zip(current, candidate, strict=False)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return Difference(
        current == candidate, {"common_beginning": alike / longest if longest else 1.0}
    )


def _difference(current: BaseModel, candidate: BaseModel) -> Difference:
    adapter = _ADAPTERS.get(type(current))
    if adapter is None or type(current) is not type(candidate):
        return Difference(current == candidate)
    return adapter(current, candidate)


def _labels(current: ClassificationResponse, candidate: ClassificationResponse) -> Difference:
    return Difference(
        current.label == candidate.label,
        {"score_difference": _score_difference(current.scores, candidate.scores)},
    )


def _label_sets(current: MultiLabelResponse, candidate: MultiLabelResponse) -> Difference:
    mine, theirs = set(current.labels), set(candidate.labels)
    return Difference(
        mine == theirs,
        {
            "jaccard": len(mine & theirs) / len(mine | theirs) if mine | theirs else 1.0,
            "score_difference": _score_difference(current.scores, candidate.scores),
        },
    )


def _score_difference(current: Sequence[LabelScore], candidate: Sequence[LabelScore]) -> float:
    """The largest difference of a label's probability; a label that one lacks has 0 there."""
    mine = {item.label: item.score for item in current}
    theirs = {item.label: item.score for item in candidate}
    return max(
        (abs(mine.get(label, 0.0) - theirs.get(label, 0.0)) for label in mine | theirs),
        default=0.0,
    )


def _entities(current: EntityResponse, candidate: EntityResponse) -> Difference:
    """F1 of the one's entities against the other's, by label and both ends."""
    mine = {(entity.label, entity.start, entity.end) for entity in current.entities}
    theirs = {(entity.label, entity.start, entity.end) for entity in candidate.entities}
    total = len(mine) + len(theirs)
    return Difference(
        mine == theirs, {"entity_f1": 2 * len(mine & theirs) / total if total else 1.0}
    )


def _vectors(current: EmbeddingResponse, candidate: EmbeddingResponse) -> Difference:
    mine, theirs = np.asarray(current.embedding), np.asarray(candidate.embedding)
    if mine.shape != theirs.shape:
        return Difference(False)
    lengths = float(np.linalg.norm(mine) * np.linalg.norm(theirs))
    return Difference(None, {"cosine": float(mine @ theirs) / lengths if lengths else 0.0})


def _translations(current: TranslatedText, candidate: TranslatedText) -> Difference:
    return compare_texts(current.text, candidate.text)


def _rankings(pairs: Sequence[tuple[Any, Any]]) -> list[Difference]:
    """One difference for all rows; whether both would show the same candidate first."""
    mine = np.array([one.score for one, _ in pairs])
    theirs = np.array([other.score for _, other in pairs])
    figures = {"score_difference": float(np.abs(mine - theirs).max())}
    if len(pairs) == 1:
        return [Difference(None, figures)]
    figures["rank_correlation"] = _spearman(mine, theirs)
    return [Difference(bool(mine.argmax() == theirs.argmax()), figures)]


def _spearman(one: Any, other: Any) -> float:
    """Correlation of ranks, ties sharing their mean; 1 where neither tells candidates apart."""
    ranks = [_ranks(values) - (len(values) - 1) / 2 for values in (one, other)]
    lengths = [float(np.sqrt(rank @ rank)) for rank in ranks]
    if not all(lengths):
        return 1.0 if not any(lengths) else 0.0
    return float(ranks[0] @ ranks[1]) / (lengths[0] * lengths[1])


def _ranks(values: Any) -> Any:
    below = (values[:, None] > values[None]).sum(axis=1)
    equal = (values[:, None] == values[None]).sum(axis=1)
    return below + (equal - 1) / 2


_Adapter: TypeAlias = Callable[[Any, Any], Difference]
_ADAPTERS: dict[type[BaseModel], _Adapter] = {
    ClassificationResponse: _labels,
    MultiLabelResponse: _label_sets,
    EntityResponse: _entities,
    EmbeddingResponse: _vectors,
    TranslatedText: _translations,
}


class FigureReport(Config):
    """A figure over all compared inputs."""

    mean: float
    least: float
    most: float


class AgreementReport(Config):
    """How alike the answers of two bundles were."""

    compared: int = 0
    """Inputs, or for rankings requests, that both have answered."""
    agreement: float | None = None
    """Share of them with the same answer; None where that is no question."""
    figures: dict[str, FigureReport] = Field(default_factory=dict)


class Agreement:
    """The differences so far, of one task. Add to it from one thread."""

    def __init__(self) -> None:
        """Nothing was compared yet."""
        self._compared = 0
        self._answered = 0
        self._agreed = 0
        self._figures: dict[str, list[float]] = {}

    def add(self, difference: Difference) -> None:
        """One more pair of answers."""
        self._compared += 1
        if difference.agrees is not None:
            self._answered += 1
            self._agreed += difference.agrees
        for name, value in difference.figures.items():
            known = self._figures.setdefault(name, [0, 0.0, value, value])
            known[0] += 1
            known[1] += value
            known[2] = min(known[2], value)
            known[3] = max(known[3], value)

    def report(self) -> AgreementReport:
        """The figures as they are."""
        return AgreementReport(
            compared=self._compared,
            agreement=self._agreed / self._answered if self._answered else None,
            figures={
                name: FigureReport(mean=total / count, least=least, most=most)
                for name, (count, total, least, most) in self._figures.items()
            },
        )
