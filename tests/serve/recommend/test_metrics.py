"""Figures against scikit-learn and plain loops."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from serve.recommend.metrics import bootstrap, intra_list_diversity, ndcg_at, recall_at


def test_ndcg_is_that_of_sklearn():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = rng.random(30) < 0.2
        if not truth.any():
            continue
        scores = rng.random(30)
        ranked = truth[np.argsort(-scores)]
        for k in (1, 5, 10):
            expected = ndcg_score(truth[None].astype(int), scores[None], k=k)
            assert ndcg_at(ranked[:k], int(truth.sum()), k) == pytest.approx(expected, abs=1e-12)


def test_recall_counts_what_was_found():
    ranked = np.asarray([True, False, True, False])
    assert recall_at(ranked, 4, 3) == 0.5
    assert recall_at(ranked, 4, 1) == 0.25


def test_diversity_is_the_mean_over_pairs():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(5, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [1 - float(a @ b) for a, b in itertools.combinations(vectors, 2)]
    assert intra_list_diversity(vectors @ vectors.T) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert intra_list_diversity(vectors[:1] @ vectors[:1].T) == 0.0


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(2)
    held = 0
    for seed in range(200):
        interval = bootstrap(rng.normal(1.0, 1.0, size=60).tolist(), seed=seed, num_draws=400)
        assert interval.low <= interval.mean <= interval.high
        held += interval.low <= 1.0 <= interval.high
    assert 0.90 <= held / 200 <= 0.985  # 0.95, less a little for the small sample
