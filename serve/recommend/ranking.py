"""One ranking: candidates, features, scores, diversity and reasons. Pure numpy.

In two steps, because between them the ranking model may be asked about the best candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.recommend.catalogue import Catalogue
from serve.recommend.features import FEATURES, FeatureTable, feature_table, text_similarities
from serve.recommend.history import History
from serve.recommend.memory import Snapshot
from serve.recommend.metrics import intra_list_diversity
from serve.recommend.mmr import maximal_marginal_relevance
from serve.recommend.moment import Moment
from serve.recommend.ranker import FixedWeights, Scorer
from serve.recommend.training import Features

__all__ = ["Draft", "Place", "Question", "Ranked", "draft_ranking", "finish_ranking"]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Whom to recommend what, in numbers of the snapshot."""

    user: int
    """-1: not known."""
    history: Sequence[int]
    candidates: NDArray[np.int64] | None
    """None: everything."""
    exclude_seen: bool
    time: float


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """Candidates with their scores."""

    catalogue: Catalogue
    moment: Moment
    history: History
    scorer: Scorer
    candidates: NDArray[np.int64]
    table: FeatureTable
    """(candidates, features)"""
    scores: NDArray[np.float64]
    pool: NDArray[np.int64]
    """Rows of the best candidates, best first."""
    ranks_by_popularity: NDArray[np.int64]
    """(candidates,) from 1."""

    @property
    def cold_start(self) -> bool:
        """Whether nothing is known that the user likes."""
        return not len(self.history.liked)


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a ranking."""

    item: int
    score: float
    rank_by_relevance: int
    rank_by_popularity: int
    features: Mapping[str, float]
    contributions: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ranked:
    """The places, first first."""

    places: tuple[Place, ...]
    intra_list_diversity: float
    baseline_diversity: float


def draft_ranking(
    snapshot: Snapshot, question: Question, *, scorer: Scorer, features: Features, pool: int
) -> Draft:
    """The best ``pool`` candidates by ``scorer``; by the fixed weights where nothing is known.

    A ranker has learnt from users with likes, so without any it is not asked.
    """
    catalogue = snapshot.catalogue
    moment = features.moment(snapshot.log, catalogue, question.time)
    history = features.history(snapshot.log, question.user, question.time, added=question.history)
    candidates = _candidates(catalogue, history, question)
    table = feature_table(catalogue, moment, history, candidates, weighting=features.weighting)
    used = scorer if len(history.liked) else FixedWeights()
    scores = used.score(table)
    by_popularity = np.argsort(-moment.popularity[candidates], kind="stable")
    ranks = np.empty(len(candidates), np.int64)
    ranks[by_popularity] = np.arange(1, len(candidates) + 1)
    return Draft(
        catalogue=catalogue,
        moment=moment,
        history=history,
        scorer=used,
        candidates=candidates,
        table=table,
        scores=scores,
        pool=np.argsort(-scores, kind="stable")[:pool],
        ranks_by_popularity=ranks,
    )


def finish_ranking(
    draft: Draft,
    *,
    model_scores: Sequence[float] | None,
    top_k: int,
    diversity: float,
) -> Ranked:
    """The first ``top_k`` places.

    ``model_scores`` are those of the draft's pool, which is then scored again with them.
    """
    table, scores = draft.table, draft.scores
    if model_scores is not None:
        table = table.copy()
        table[draft.pool, FEATURES.index("model_score")] = model_scores
        scores = draft.scorer.score(table)
    order = draft.pool[np.argsort(-scores[draft.pool], kind="stable")]
    vectors = draft.catalogue.embeddings[draft.candidates[order]]
    chosen = maximal_marginal_relevance(
        scores[order], vectors, weight=1.0 - diversity, num_chosen=top_k
    )
    rows = order[chosen]
    contributions = draft.scorer.contributions(table, rows)
    places = tuple(
        Place(
            item=int(draft.candidates[row]),
            score=float(scores[row]),
            rank_by_relevance=int(place) + 1,
            rank_by_popularity=int(draft.ranks_by_popularity[row]),
            features=_known(dict(zip(FEATURES, table[row].tolist(), strict=True))),
            contributions={name: float(terms[i]) for name, terms in contributions.items()},
        )
        for i, (place, row) in enumerate(zip(chosen, rows, strict=True))
    )
    return Ranked(
        places,
        intra_list_diversity=_diversity(draft, rows),
        baseline_diversity=_diversity(draft, order[:top_k]),
    )


def _candidates(catalogue: Catalogue, history: History, question: Question) -> NDArray[np.int64]:
    """Each once, without what is not there yet, hidden or (if so asked) seen."""
    usable = catalogue.published <= question.time
    usable[history.hidden] = False
    if question.exclude_seen:
        usable[history.seen] = False
    if question.candidates is not None:
        asked = np.zeros(len(catalogue), np.bool_)
        asked[question.candidates] = True
        usable &= asked
    return np.flatnonzero(usable)


def _diversity(draft: Draft, rows: NDArray[np.int64]) -> float:
    items = draft.candidates[rows]
    return intra_list_diversity(text_similarities(draft.catalogue, items, items))


def _known(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
