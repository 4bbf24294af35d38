"""A ranker is its text: the same after a restart, and refused when it was changed."""

import hashlib

import numpy as np
import pytest

from ray_sft.core import ServeError
from serve.recommend.features import FEATURES
from serve.recommend.ranker import WEIGHTS, FixedWeights, TrainedRanker, fit_ranker


def tables(num_queries=60, num_rows=20, seed=0):
    """Random features; rows with a high ``likely`` and ``text_max`` are liked."""
    rng = np.random.default_rng(seed)
    made, grades = [], []
    for _ in range(num_queries):
        table = rng.random((num_rows, len(FEATURES))).astype(np.float32)
        table[:, FEATURES.index("model_score")] = np.nan
        value = table[:, FEATURES.index("likely")] + table[:, FEATURES.index("text_max")]
        made.append(table)
        grades.append((value >= np.sort(value)[-4]).astype(np.int8) * 2)
    return made, grades


@pytest.fixture(scope="module")
def ranker():
    made, grades = tables()
    return fit_ranker(made, grades, num_threads=1, seed=0)


def test_it_learns_what_is_liked(ranker):
    made, grades = tables(seed=1)
    hits = [
        grade[np.argsort(-ranker.score(table))[:4]].sum() / 8
        for table, grade in zip(made, grades, strict=True)
    ]
    assert np.mean(hits) > 0.8  # by chance 0.2


def test_the_stored_text_scores_the_same(ranker):
    (table, *_), _ = tables(seed=2)
    again = TrainedRanker(ranker.text, sha256=ranker.sha256)
    np.testing.assert_array_equal(again.score(table), ranker.score(table))
    assert again.mismatch is None


def test_equal_data_and_seed_give_the_same_text(ranker):
    made, grades = tables()
    again = fit_ranker(made, grades, num_threads=2, seed=0)
    (table, *_), _ = tables(seed=2)
    np.testing.assert_array_equal(again.score(table), ranker.score(table))
    other = fit_ranker(made, grades, num_threads=1, seed=1)
    assert not np.array_equal(other.score(table), ranker.score(table))


def test_a_changed_text_is_refused(ranker):
    with pytest.raises(ServeError, match=r"damaged.*rankers.*train again"):
        TrainedRanker(ranker.text.replace("=", "= ", 1), sha256=ranker.sha256)


def test_a_ranker_of_other_features_says_so(ranker):
    text = ranker.text.replace("text_mean", "text_mode")
    other = TrainedRanker(text, sha256=hashlib.sha256(text.encode()).hexdigest())
    assert "text_mode" in other.mismatch
    assert "Train again" in other.mismatch


def test_contributions_add_up_to_the_score(ranker):
    (table, *_), _ = tables(seed=3)
    rows = np.asarray([3, 0, 7])
    weights = FixedWeights()
    summed = np.sum(list(weights.contributions(table, rows).values()), axis=0)
    assert summed == pytest.approx(weights.score(table)[rows])
    summed = np.sum(list(ranker.contributions(table, rows).values()), axis=0)
    offset = ranker.score(table)[rows] - summed  # the mean over the training's rows
    assert offset == pytest.approx(np.full(3, offset[0]), abs=1e-9)


def test_fixed_weights_are_a_sum_of_scaled_features():
    table = np.full((3, len(FEATURES)), np.nan, np.float32)
    table[:, FEATURES.index("likely")] = [0.0, 5.0, 10.0]
    table[:, FEATURES.index("text_disliked")] = [1.0, 0.0, 1.0]
    table[:, FEATURES.index("popularity")] = 4.0  # equal: says nothing
    expected = [WEIGHTS["text_disliked"], WEIGHTS["likely"] / 2, 0]
    expected[2] = WEIGHTS["likely"] + WEIGHTS["text_disliked"]
    assert FixedWeights().score(table) == pytest.approx(expected)


def test_an_empty_table_has_no_scores(ranker):
    empty = np.empty((0, len(FEATURES)), np.float32)
    nothing = np.empty(0, np.int64)
    for scorer in (ranker, FixedWeights()):
        assert scorer.score(empty).shape == (0,)
        assert all(len(v) == 0 for v in scorer.contributions(empty, nothing).values())
