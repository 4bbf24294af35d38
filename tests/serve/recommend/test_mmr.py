"""Diversity against a slow reading of the paper's formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from serve.recommend.metrics import intra_list_diversity
from serve.recommend.mmr import maximal_marginal_relevance

SIZES = st.integers(1, 12)
NUMBERS = st.floats(-3, 3, width=32).map(lambda x: round(x, 2))


@st.composite
def candidates(draw):
    size = draw(SIZES)
    relevance = draw(arrays(np.float64, size, elements=NUMBERS))
    vectors = draw(arrays(np.float32, (size, 3), elements=NUMBERS))
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return relevance, (vectors / np.where(norms < 0.01, 1e9, norms)).astype(np.float32)


@given(candidates(), st.integers(1, 12))
def test_weight_one_is_the_pure_order(given_, num_chosen):
    relevance, vectors = given_
    chosen = maximal_marginal_relevance(relevance, vectors, weight=1.0, num_chosen=num_chosen)
    order = sorted(range(len(relevance)), key=lambda i: -relevance[i])
    assert chosen.tolist() == order[:num_chosen]


@settings(deadline=None)
@given(candidates(), st.integers(1, 12), st.sampled_from([0.0, 0.3, 0.7, 0.95]))
def test_every_choice_maximises_the_formula(given_, num_chosen, weight):
    relevance, vectors = given_
    chosen = maximal_marginal_relevance(
        relevance, vectors, weight=weight, num_chosen=num_chosen
    ).tolist()
    assert len(set(chosen)) == len(chosen) == min(num_chosen, len(relevance))
    spread = relevance.max() - relevance.min()
    scaled = (relevance - relevance.min()) / spread if spread > 0 else relevance * 0
    for place, best in enumerate(chosen):
        taken = chosen[:place]

        def value(i, taken=taken):
            nearest = max((float(vectors[i] @ vectors[j]) for j in taken), default=0.0)
            return weight * scaled[i] - (1 - weight) * nearest

        rest = [i for i in range(len(relevance)) if i not in taken]
        assert value(best) == pytest.approx(max(value(i) for i in rest), abs=1e-5)


def test_a_copy_of_the_best_gives_way_to_something_else():
    vectors = np.asarray([[1, 0], [1, 0], [0, 1]], np.float32)
    relevance = np.asarray([1.0, 0.9, 0.5])
    pure = maximal_marginal_relevance(relevance, vectors, weight=1.0, num_chosen=2)
    mixed = maximal_marginal_relevance(relevance, vectors, weight=0.5, num_chosen=2)
    assert pure.tolist() == [0, 1]
    assert mixed.tolist() == [0, 2]
    similarities = vectors @ vectors.T
    assert intra_list_diversity(similarities[np.ix_(pure, pure)]) == pytest.approx(0.0)
    assert intra_list_diversity(similarities[np.ix_(mixed, mixed)]) == pytest.approx(1.0)


def test_nothing_to_choose_from():
    empty = np.empty((0, 2), np.float32)
    for weight in (0.5, 1.0):
        assert not len(maximal_marginal_relevance(np.empty(0), empty, weight=weight, num_chosen=3))
