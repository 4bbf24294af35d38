"""Questions whose answers are in the future, and negatives that could have been chosen."""

import numpy as np
import pytest

from serve.recommend.catalogue import Catalogue, Item
from serve.recommend.event_store import Ranking
from serve.recommend.events import Event
from serve.recommend.features import Weighting
from serve.recommend.memory import Snapshot
from serve.recommend.queries import (
    held_out_queries,
    shown_queries,
    split_time,
    training_queries,
    unseen_available,
)
from serve.recommend.training import Features, _with_negatives

from .conftest import make_catalogue, make_log, shop_catalogue, shop_log

FEATURES = Features(Weighting(half_life=5.0, num_recent=2), half_life_days=1.0, max_history=20)


@pytest.fixture(scope="module")
def catalogue():
    return shop_catalogue()


@pytest.fixture(scope="module")
def log(catalogue):
    return shop_log(catalogue)


def liked(log, user, low=-np.inf, high=np.inf):
    return {
        int(item)
        for t, u, item, grade in zip(log.times, log.users, log.items, log.grades, strict=True)
        if u == user and grade > 0 and low <= t < high
    }


def test_the_split_leaves_the_share_it_was_asked_for(log):
    times = log.times[log.grades > 0]
    assert (times >= split_time(log, 0.2)).mean() == pytest.approx(0.2, abs=0.01)


def test_training_asks_for_the_future_of_users_with_a_past(log, catalogue):
    past = log.before(split_time(log, 0.2))
    rng = np.random.default_rng(0)
    queries = training_queries(past, catalogue, min_history=3, max_queries=300, rng=rng)
    assert 0 < len(queries) <= 300
    assert [query.time for query in queries] == sorted(query.time for query in queries)
    for query in queries:
        history = FEATURES.history(past, query.user, query.time)
        assert len(liked(past, query.user, high=query.time)) >= 3
        assert set(query.targets.tolist()) <= liked(past, query.user, low=query.time)
        assert not set(query.targets.tolist()) & set(history.seen.tolist())
        assert (query.grades > 0).all()
        assert query.time < past.times[-1] + 1


def test_held_out_users_are_asked_once_for_everything_after_the_split(log, catalogue):
    since = split_time(log, 0.2)
    rng = np.random.default_rng(0)
    queries = held_out_queries(log, catalogue, since=since, min_history=3, rng=rng)
    users = [query.user for query in queries]
    assert len(set(users)) == len(users) > 20
    for query in queries:
        assert query.time >= since
        seen = FEATURES.history(log, query.user, query.time).seen
        expected = liked(log, query.user, low=query.time) - set(seen.tolist())
        assert set(query.targets.tolist()) == expected


def test_negatives_existed_and_were_never_liked_or_seen(log, catalogue):
    newer = Catalogue(
        tuple(
            Item(item.id, item.title, published=1e12 if number % 2 else None)
            for number, item in enumerate(catalogue.items)
        ),
        catalogue.embeddings,
    )
    rng = np.random.default_rng(0)
    for query in training_queries(log, newer, min_history=3, max_queries=40, rng=rng):
        history = FEATURES.history(log, query.user, query.time)
        candidates = _with_negatives(log, newer, query, history, rng)
        targets, negatives = np.split(candidates, [len(query.targets)])
        assert targets.tolist() == query.targets.tolist()
        assert len(set(candidates.tolist())) == len(candidates)
        assert not set(negatives.tolist()) & (liked(log, query.user) | set(history.seen.tolist()))
        assert (candidates % 2 == 0).all()


def test_items_appear_when_they_are_published():
    catalogue = make_catalogue(3)
    items = (catalogue.items[0], Item("late", "late", published=5.0), catalogue.items[2])
    catalogue = Catalogue(items, catalogue.embeddings)
    nothing = np.empty(0, np.int64)
    assert unseen_available(catalogue, 4.9, nothing).tolist() == [0, 2]
    assert unseen_available(catalogue, 5.0, np.asarray([0])).tolist() == [1, 2]


def test_an_answered_ranking_asks_among_what_it_showed():
    catalogue = make_catalogue(6)
    log = make_log([(1.0, 0, 0, "like", None)])
    snapshot = Snapshot(catalogue, log, {"ann": 0}, 0)
    ranking = Ranking("r", "ann", 2.0, "weights", (("i001", 0.9), ("i002", 0.5), ("i003", 0.1)))

    def answer(item, kind, time=3.0):
        return Event(f"{item}{kind}", "ann", item, kind, time, ranking_id="r")

    answers = [answer("i002", "click"), answer("i002", "purchase"), answer("i005", "like")]
    (query,) = shown_queries(snapshot, [(ranking, answers)], before=9.0)
    assert query.user == 0
    assert query.time == 2.0
    assert query.shown.tolist() == [1, 2, 3]
    assert query.targets.tolist() == [2]
    assert query.grades.tolist() == [3]
    assert shown_queries(snapshot, [(ranking, answers)], before=3.0) == []  # the answer is later
    assert shown_queries(snapshot, [(ranking, [answer("i002", "hide")])], before=9.0) == []
