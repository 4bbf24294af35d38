"""Training and measuring on the shop's events, and the gate between ranker and fixed weights."""

import numpy as np
import pytest

from serve.outcomes import StoppedError
from serve.recommend import RecommendArgs
from serve.recommend.evaluate import evaluate, scorers_of
from serve.recommend.memory import Snapshot
from serve.recommend.queries import held_out_queries, split_time
from serve.recommend.retrain import Outcome, retrain
from serve.recommend.settings import features_of

from .conftest import make_log, shop_catalogue, shop_log

ARGS = RecommendArgs(embedding_model="words", min_history=3, max_queries=300)


@pytest.fixture(scope="module")
def snapshot():
    catalogue = shop_catalogue()
    return Snapshot(catalogue, shop_log(catalogue), {}, 0)


def trained(snapshot, **options) -> Outcome:
    args = options.pop("args", ARGS)
    settings = {"pair_scores": None, **options}
    return retrain(snapshot, [], args=args, features=features_of(args), **settings)


@pytest.fixture(scope="module")
def outcome(snapshot):
    return trained(snapshot)


def test_every_way_of_ranking_is_measured_on_the_same_users(outcome):
    assert set(outcome.figures) == {"ranker", "weights", "popularity", "item_knn"}
    assert len({figures.num_users for figures in outcome.figures.values()}) == 1
    for figures in outcome.figures.values():
        assert figures.num_users > 20
        assert 0.0 <= figures.ndcg.low <= figures.ndcg.mean <= figures.ndcg.high <= 1.0
        assert 0.0 < figures.coverage <= 1.0


def test_the_better_one_is_used(outcome):
    better = outcome.figures["ranker"].ndcg.mean > outcome.figures["weights"].ndcg.mean
    assert (outcome.ranker is not None) == better
    assert outcome.reason.startswith("the trained ranker" if better else "the fixed weights")


def test_equal_events_give_an_equal_ranker(snapshot, outcome):
    again = trained(snapshot)
    assert again.figures == outcome.figures
    other = trained(snapshot, args=ARGS.model_copy(update={"seed": 1}))
    assert other.figures["ranker"] != outcome.figures["ranker"]


def test_an_oracle_is_perfect_and_chance_is_not(snapshot):
    since = split_time(snapshot.log, 0.2)
    rng = np.random.default_rng(0)
    queries = held_out_queries(
        snapshot.log, snapshot.catalogue, since=since, min_history=3, rng=rng
    )
    scorers = scorers_of(None) | {
        "oracle": lambda case: np.isin(case.candidates, case.query.targets).astype(float),
        "chance": lambda case: rng.random(len(case.candidates)),
    }
    figures = evaluate(
        snapshot.log, snapshot.catalogue, queries, scorers, features=features_of(ARGS)
    )
    assert "ranker" not in figures
    assert figures["oracle"].ndcg.mean == figures["oracle"].ndcg.low == 1.0
    assert figures["weights"].ndcg.mean > 2 * figures["chance"].ndcg.mean
    # a random order's expected gain at each place is the share of targets among the candidates
    sizes = [
        len(q.targets) / (150 - len(features_of(ARGS).history(snapshot.log, q.user, q.time).seen))
        for q in queries
    ]
    discounts = 1 / np.log2(np.arange(2, 12))
    expected = np.mean(
        [
            share * discounts.sum() / discounts[: min(10, len(q.targets))].sum()
            for share, q in zip(sizes, queries, strict=True)
        ]
    )
    assert figures["chance"].ndcg.low < expected < figures["chance"].ndcg.high


def test_too_little_is_said_with_the_numbers(snapshot):
    few = Snapshot(snapshot.catalogue, make_log([(1.0, 0, 0, "like", None)]), {}, 0)
    none = Snapshot(snapshot.catalogue, make_log([]), {}, 0)
    for little in (few, none):
        outcome = trained(little)
        assert outcome.ranker is None
        assert outcome.figures == {}
        assert "0 moments with at least 3 likes" in outcome.reason
        assert "needed: 50" in outcome.reason


def test_training_ends_where_it_is_told_to(snapshot):
    calls = iter(range(100))

    def check() -> None:
        if next(calls) == 20:
            raise StoppedError("stop")

    with pytest.raises(StoppedError):
        trained(snapshot, check=check)


def test_the_ranking_model_reads_as_many_pairs_as_it_may(snapshot):
    read: list[int] = []

    def pair_scores(history, candidates):
        assert len(history.liked) >= 3
        read.append(len(candidates))
        return np.isin(candidates, history.liked + 1).astype(np.float32)

    args = ARGS.model_copy(update={"max_scored_pairs": 2000})
    outcome = trained(snapshot, pair_scores=pair_scores, args=args)
    assert 1000 < sum(read) <= 2000
    assert outcome.num_queries > len(read)
