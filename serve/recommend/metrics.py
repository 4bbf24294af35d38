"""Figures of ranked lists. Pure numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "bootstrap", "intra_list_diversity", "ndcg_at", "recall_at"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95% confidence interval."""

    mean: float
    low: float
    high: float


def ndcg_at(relevant: NDArray[np.bool_], num_relevant: int, k: int) -> float:
    """Discounted gain of the first ``k`` of a list over that of the best possible list.

    ``relevant`` says of each place of the list, best first, whether the item there is one of the
    ``num_relevant`` (at least 1) that are. Jarvelin & Kekalainen 2002, with gains 0 and 1.
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    gain = float(discounts[: len(relevant[:k])] @ relevant[:k])
    return gain / float(discounts[: min(k, num_relevant)].sum())


def recall_at(relevant: NDArray[np.bool_], num_relevant: int, k: int) -> float:
    """Share of the ``num_relevant`` (at least 1) relevant items that stand in the first ``k``."""
    return float(relevant[:k].sum()) / num_relevant


def intra_list_diversity(similarities: NDArray[np.float32]) -> float:
    """Mean of 1 - cosine over all pairs of a list; 0 where there is no pair.

    ``similarities`` (items, items) holds the cosines. Ziegler et al. 2005 call the sum of the
    similarities intra-list similarity.
    """
    size = len(similarities)
    if size < 2:
        return 0.0
    above = similarities[np.triu_indices(size, k=1)]
    return float(np.mean(1.0 - above))


def bootstrap(values: Sequence[float], *, seed: int, num_draws: int = 1000) -> Interval:
    """The mean of ``values``, one per user, and its interval by resampling users."""
    sample = np.asarray(values, np.float64)
    if not len(sample):
        return Interval(np.nan, np.nan, np.nan)
    draws = np.random.default_rng(seed).integers(len(sample), size=(num_draws, len(sample)))
    low, high = np.quantile(sample[draws].mean(axis=1), [0.025, 0.975])
    return Interval(float(sample.mean()), float(low), float(high))
