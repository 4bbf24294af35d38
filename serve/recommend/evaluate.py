"""Ranking quality on users' later likes, split by time, with confidence intervals."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from serve.recommend.baselines import item_knn_scores, popularity_scores
from serve.recommend.catalogue import Catalogue
from serve.recommend.events import EventLog
from serve.recommend.features import FeatureTable, feature_table
from serve.recommend.history import History
from serve.recommend.metrics import Interval, bootstrap, ndcg_at, recall_at
from serve.recommend.queries import Query, unseen_available
from serve.recommend.ranker import FixedWeights, TrainedRanker
from serve.recommend.training import Features

__all__ = ["Case", "Figures", "evaluate", "scorers_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A query with all that a ranker may know."""

    log: EventLog
    query: Query
    history: History
    candidates: NDArray[np.int64]
    """Every item that existed and that the user had not seen."""
    table: FeatureTable
    num_items: int


CaseScorer: TypeAlias = Callable[[Case], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Figures:
    """How well one ranker does; intervals are by resampling users."""

    ndcg: Interval
    recall: Interval
    coverage: float
    """Share of the catalogue that anyone was recommended."""
    num_users: int
    per_user: tuple[float, ...]
    """NDCG of each user, in the order of the queries."""


def scorers_of(ranker: TrainedRanker | None) -> dict[str, CaseScorer]:
    """The ranker, the fixed weights and the two peers, by name."""
    weights = FixedWeights()
    scorers: dict[str, CaseScorer] = {
        "weights": lambda case: weights.score(case.table),
        "popularity": _popularity,
        "item_knn": _item_knn,
    }
    if ranker is not None:
        scorers["ranker"] = lambda case: ranker.score(case.table)
    return scorers


def evaluate(
    log: EventLog,
    catalogue: Catalogue,
    queries: Iterable[Query],
    scorers: Mapping[str, CaseScorer],
    *,
    features: Features,
    k: int = 10,
    seed: int = 0,
) -> dict[str, Figures]:
    """The figures of each of ``scorers``, all ranking every candidate of every query."""
    ndcgs: dict[str, list[float]] = {name: [] for name in scorers}
    recalls: dict[str, list[float]] = {name: [] for name in scorers}
    shown: dict[str, set[int]] = {name: set() for name in scorers}
    for query in queries:
        case = _case(log, catalogue, query, features)
        for name, scorer in scorers.items():
            best = case.candidates[_best(scorer(case), k)]
            relevant = np.isin(best, query.targets)
            ndcgs[name].append(ndcg_at(relevant, len(query.targets), k))
            recalls[name].append(recall_at(relevant, len(query.targets), k))
            shown[name].update(best.tolist())
    return {
        name: Figures(
            ndcg=bootstrap(ndcgs[name], seed=seed),
            recall=bootstrap(recalls[name], seed=seed),
            coverage=len(shown[name]) / max(1, len(catalogue)),
            num_users=len(ndcgs[name]),
            per_user=tuple(ndcgs[name]),
        )
        for name in scorers
    }


def _case(log: EventLog, catalogue: Catalogue, query: Query, features: Features) -> Case:
    history = features.history(log, query.user, query.time)
    candidates = unseen_available(catalogue, query.time, history.seen)
    moment = features.moment(log, catalogue, query.time)
    table = feature_table(catalogue, moment, history, candidates, weighting=features.weighting)
    return Case(log, query, history, candidates, table, len(catalogue))


def _best(scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    return np.argsort(-scores, kind="stable")[:k]


def _popularity(case: Case) -> NDArray[np.float64]:
    scores = popularity_scores(case.log, case.query.time, num_items=case.num_items)
    return scores[case.candidates]


def _item_knn(case: Case) -> NDArray[np.float64]:
    scores = item_knn_scores(case.log, case.query.time, case.history, num_items=case.num_items)
    return scores[case.candidates]
