"""Figures of items against dense matrices and closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from serve.recommend.baselines import item_knn_scores, popularity_scores
from serve.recommend.history import history_before
from serve.recommend.moment import Moment

from .conftest import make_log

NUM_USERS, NUM_ITEMS = 12, 20
DAY = 86_400.0


@pytest.fixture
def log():
    rng = np.random.default_rng(3)
    kinds = ("click", "like", "purchase", "impression", "hide", "rating")
    rows = [
        (
            float(rng.integers(1000)),
            int(rng.integers(NUM_USERS)),
            int(rng.integers(NUM_ITEMS)),
            str(rng.choice(kinds)),
            float(rng.integers(1, 6)),
        )
        for _ in range(300)
    ]
    return make_log(rows)


def likes_before(log, time):
    """(users, items) by a plain loop."""
    matrix = np.zeros((NUM_USERS, NUM_ITEMS))
    worth = {1, 2, 3}
    for t, user, item, kind, value in zip(
        log.times, log.users, log.items, log.kinds, log.values, strict=True
    ):
        if t < time and (kind in worth or (kind == 4 and value >= 4)):
            matrix[user, item] = 1.0
    return matrix


def moment(log, time=700.0, half_life_days=1.0):
    return Moment(log, time, num_items=NUM_ITEMS, half_life_days=half_life_days)


def test_an_event_counts_half_after_a_half_life():
    log = make_log([(0.0, 0, 1, "click", None), (DAY * 2, 1, 2, "click", None)])
    popularity = Moment(log, DAY * 4, num_items=3, half_life_days=2.0).popularity
    assert popularity == pytest.approx([0.0, 0.25, 0.5])


def test_likes_count_users_once(log):
    matrix = likes_before(log, 700.0)
    assert moment(log).likes.tolist() == matrix.sum(axis=0).tolist()
    assert popularity_scores(log, 700.0, num_items=NUM_ITEMS).tolist() == (
        matrix.sum(axis=0).tolist()
    )


@pytest.mark.parametrize("user", [0, 5])
def test_spreading_is_what_dense_matrices_say(log, user):
    weights = np.random.default_rng(4).random(NUM_ITEMS)
    matrix = likes_before(log, 700.0)
    num_likes = np.maximum(1, matrix.sum(axis=0))
    by_user = np.maximum(1, matrix.sum(axis=1))
    others = matrix.copy()
    others[user] = 0.0
    together = (others / np.sqrt(num_likes)).T @ (others / np.sqrt(num_likes)) @ weights
    assert moment(log).together(weights, user) == pytest.approx(together)
    likely = others.T @ ((others / np.sqrt(num_likes)) @ weights / np.sqrt(by_user))
    assert moment(log).likely(weights, user) == pytest.approx(likely)
    walk = (others / np.sqrt(num_likes)).T @ ((others / num_likes) @ weights / by_user)
    assert moment(log).walk(weights, user) == pytest.approx(walk)
    counts = others.T @ others
    for item in range(NUM_ITEMS):
        assert moment(log).liked_with(item, user).tolist() == counts[item].tolist()


def test_approval_is_drawn_to_the_average():
    rows = [(float(n), n, 0, "like", None) for n in range(10)]
    rows += [(float(n), n, 1, "hide", None) for n in range(10)]
    rows += [(float(n), n, 2, "impression", None) for n in range(10)]
    found = Moment(make_log(rows), 100.0, num_items=3, half_life_days=1.0).approval
    assert found == pytest.approx([12.5 / 15, 2.5 / 15, 0.5])


def test_nearest_neighbours_are_those_of_sklearn(log):
    history = history_before(log, 3, 700.0, max_liked=50)
    matrix = likes_before(log, 700.0)
    similarities = cosine_similarity(matrix.T)
    np.fill_diagonal(similarities, 0.0)
    scores = item_knn_scores(log, 700.0, history, num_items=NUM_ITEMS)
    assert scores == pytest.approx(similarities[history.liked].sum(axis=0))
    for item in history.liked:  # of equal similarities either neighbour is right
        alone = replace(history, liked=np.asarray([item]))
        found = item_knn_scores(log, 700.0, alone, num_items=NUM_ITEMS, num_neighbours=4)
        nearest = np.sort(similarities[item])[-4:]
        assert np.sort(found)[-4:] == pytest.approx(nearest)
        assert np.count_nonzero(found) == np.count_nonzero(nearest)


def test_together_agrees_with_the_peer_of_all_neighbours(log):
    """Two implementations of one formula, on items that the user has not liked."""
    history = history_before(log, 3, 700.0, max_liked=50)
    weights = np.zeros(NUM_ITEMS)
    weights[history.liked] = 1.0
    peer = item_knn_scores(log, 700.0, history, num_items=NUM_ITEMS)
    unseen = np.setdiff1d(np.arange(NUM_ITEMS), history.seen)
    assert len(unseen)
    assert moment(log).together(weights, 3)[unseen] == pytest.approx(peer[unseen])
