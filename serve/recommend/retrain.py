"""Training with a measurement: a ranker is used only if it does better than the fixed weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from serve.recommend.args import RecommendArgs
from serve.recommend.evaluate import Figures, evaluate, scorers_of
from serve.recommend.event_store import AnsweredRanking
from serve.recommend.memory import Snapshot
from serve.recommend.queries import (
    Query,
    held_out_queries,
    shown_queries,
    split_time,
    training_queries,
)
from serve.recommend.ranker import TrainedRanker
from serve.recommend.training import Features, PairScores, learn_ranker

__all__ = ["Outcome", "retrain"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a training."""

    ranker: TrainedRanker | None
    """None: the fixed weights are used."""
    reason: str
    num_queries: int
    figures: dict[str, Figures]
    """By name, see `scorers_of`; empty where nothing could be measured."""


def retrain(
    snapshot: Snapshot,
    answered: Sequence[AnsweredRanking],
    *,
    args: RecommendArgs,
    features: Features,
    pair_scores: PairScores | None,
    check: Callable[[], None] = lambda: None,
) -> Outcome:
    """A ranker learnt from the earlier likes and measured on the later ones.

    The measured ranker is the one that is used. ``check`` is called now and then and may raise
    to end the training. Without the ranking model's scores, which would cost minutes, is measured.
    """
    log, catalogue = snapshot.log, snapshot.catalogue
    rng = np.random.default_rng(args.seed)
    since = split_time(log, args.holdout)
    past = log.before(since)
    queries = training_queries(
        past, catalogue, min_history=args.min_history, max_queries=args.max_queries, rng=rng
    )
    queries += shown_queries(snapshot, answered, before=since)
    queries = sorted(queries, key=lambda query: query.time)[-args.max_queries :]
    held_out = held_out_queries(log, catalogue, since=since, min_history=args.min_history, rng=rng)
    if len(queries) < args.min_queries or not held_out:
        return Outcome(None, _too_few(len(queries), len(held_out), args), len(queries), {})
    if len(held_out) > args.max_evaluated:
        chosen = rng.choice(len(held_out), size=args.max_evaluated, replace=False)
        held_out = [held_out[index] for index in np.sort(chosen)]
    ranker = learn_ranker(
        past,
        catalogue,
        _checked(queries, check),
        num_queries=len(queries),
        features=features,
        pair_scores=pair_scores,
        max_scored_pairs=args.max_scored_pairs,
        num_threads=args.num_threads,
        seed=args.seed,
    )
    figures = evaluate(
        log,
        catalogue,
        _checked(held_out, check),
        scorers_of(ranker),
        features=features,
        seed=args.seed,
    )
    trained, fixed = figures["ranker"].ndcg.mean, figures["weights"].ndcg.mean
    comparison = f"NDCG@10 {trained:.4f} against {fixed:.4f} of the fixed weights"
    if trained > fixed:
        return Outcome(ranker, f"the trained ranker: {comparison}.", len(queries), figures)
    reason = f"the fixed weights, for the trained ranker is no better: {comparison}."
    return Outcome(None, reason, len(queries), figures)


def _checked(queries: Sequence[Query], check: Callable[[], None]) -> Iterator[Query]:
    for query in queries:
        check()
        yield query


def _too_few(num_queries: int, num_users: int, args: RecommendArgs) -> str:
    return (
        f"the fixed weights, for there is too little to learn from: {num_queries} moments with at "
        f"least {args.min_history} likes before them (needed: {args.min_queries}), and {num_users} "
        "users to measure on (needed: 1). Send more events."
    )
