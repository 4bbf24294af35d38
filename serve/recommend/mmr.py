"""Diversity: maximal marginal relevance, Carbonell & Goldstein 1998, doi:10.1145/290941.291025."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["maximal_marginal_relevance"]


def maximal_marginal_relevance(
    relevance: NDArray[np.floating],
    vectors: NDArray[np.float32],
    *,
    weight: float,
    num_chosen: int,
) -> NDArray[np.int64]:
    """The chosen candidates in the order of their choice.

    Each next one maximises ``weight * relevance - (1 - weight) * s``, ``s`` the largest cosine to
    what is already chosen; ``weight`` is the paper's lambda. Relevance is first scaled to [0, 1],
    so that it and the cosine can be weighed against each other whatever the ranker's scale. With
    ``weight`` 1 the order is that of relevance, equals keeping their order.

    ``vectors`` (candidates, dim) has rows of length 1 (or 0, which are near nothing).
    """
    num_chosen = min(num_chosen, len(relevance))
    if weight >= 1.0:
        return np.argsort(-relevance, kind="stable")[:num_chosen]
    gain = weight * _scaled(relevance)
    nearest = np.zeros(len(relevance))
    left = np.ones(len(relevance), np.bool_)
    chosen = np.empty(num_chosen, np.int64)
    for place in range(num_chosen):
        best = int(np.argmax(np.where(left, gain - (1.0 - weight) * nearest, -np.inf)))
        chosen[place] = best
        left[best] = False
        cosines = vectors @ vectors[best]
        nearest = cosines if place == 0 else np.maximum(nearest, cosines)
    return chosen


def _scaled(values: NDArray[np.floating]) -> NDArray[np.float64]:
    low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
    if high <= low:
        return np.zeros(len(values))
    return np.asarray((values - low) / (high - low), np.float64)
