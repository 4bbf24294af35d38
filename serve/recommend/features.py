"""The features of candidates for one user at one moment. Pure numpy.

Text features are cosines of the items' vectors, so a new item has them from its first day;
features of behaviour come from events strictly older than the moment (`serve.recommend.moment`).
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from serve.recommend.catalogue import Catalogue
from serve.recommend.history import History
from serve.recommend.moment import Moment

__all__ = [
    "FEATURES",
    "MEANINGS",
    "FeatureTable",
    "Weighting",
    "feature_table",
    "text_similarities",
]

MEANINGS = {
    "text_mean": "mean cosine to the liked items",
    "text_max": "cosine to the nearest liked item",
    "text_recent": "cosine to the nearest of the last liked items",
    "text_profile": "mean cosine to the liked items, the latest counting most",
    "text_disliked": "cosine to the nearest item that was hidden or rated low",
    "category_share": "share of the liked items with the same category, the latest counting most",
    "category_disliked": "share of the disliked items with the same category",
    "together": "how often it was liked with the liked items, its popularity taken out",
    "together_recent": "the same for the last liked items",
    "likely": "how often it was liked with the liked items, its popularity included",
    "likely_recent": "the same for the last liked items",
    "walk": "logarithm of where a random walk over users and items ends",
    "popularity": "logarithm of recent events, against the most popular item",
    "likes": "logarithm of all likes, against the most liked item",
    "approval": "share of likes among opinions",
    "trend": "recent events against all likes",
    "age_days": "days since it was published",
    "shown": "how often it was shown to the user",
    "user_likes": "logarithm of how many items the user likes",
    "user_popularity": "how much more liked it is than what the user likes",
    "model_score": "what the ranking model says of the history and the item",
}
FEATURES = tuple(MEANINGS)
"""Names of the columns."""

FeatureTable: TypeAlias = NDArray[np.float32]
"""(candidates, features); NaN where a feature does not apply: an unknown age, no model score."""


@dataclass(frozen=True, slots=True)
class Weighting:
    """How much the recent part of a history counts."""

    half_life: float
    """The liked item so many places back counts half."""
    num_recent: int
    """How many of the last liked items the "recent" features look at."""


def feature_table(
    catalogue: Catalogue,
    moment: Moment,
    history: History,
    candidates: NDArray[np.int64],
    *,
    weighting: Weighting,
) -> FeatureTable:
    """The features of ``candidates``; ``model_score`` is left to be filled in."""
    columns = (
        _text_features(catalogue, history, candidates, weighting)
        | _category_features(catalogue, history, candidates, weighting)
        | _behaviour_features(moment, history, candidates, weighting)
        | _item_features(catalogue, moment, history, candidates)
    )
    table = np.full((len(candidates), len(FEATURES)), np.nan, np.float32)
    for number, name in enumerate(FEATURES):
        if name in columns:
            table[:, number] = columns[name]
    return table


def text_similarities(
    catalogue: Catalogue, candidates: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(candidates, others) cosines of the items' vectors."""
    return catalogue.embeddings[candidates] @ catalogue.embeddings[others].T


def _text_features(
    catalogue: Catalogue, history: History, candidates: NDArray[np.int64], weighting: Weighting
) -> dict[str, NDArray[np.floating]]:
    names = ("text_mean", "text_max", "text_recent", "text_profile")
    zeros = np.zeros(len(candidates), np.float32)
    columns: dict[str, NDArray[np.floating]] = dict.fromkeys(names, zeros)
    columns["text_disliked"] = zeros
    if len(history.liked):
        similarities = text_similarities(catalogue, candidates, history.liked)
        weights = _recency_weights(len(history.liked), weighting)
        columns["text_mean"] = similarities.mean(axis=1)
        columns["text_max"] = similarities.max(axis=1)
        columns["text_recent"] = similarities[:, -weighting.num_recent :].max(axis=1)
        # Not a product: OpenBLAS 0.3.31 reads uninitialised memory for five columns of float32,
        # and NumPy then warns of an invalid value that no result holds.
        columns["text_profile"] = np.average(similarities, axis=1, weights=weights)
    if len(history.disliked):
        similarities = text_similarities(catalogue, candidates, history.disliked)
        columns["text_disliked"] = similarities.max(axis=1)
    return columns


def _category_features(
    catalogue: Catalogue, history: History, candidates: NDArray[np.int64], weighting: Weighting
) -> dict[str, NDArray[np.floating]]:
    """How much of the history has the candidate's categories, averaged over these."""
    liked = catalogue.categories[history.liked] > 0
    disliked = catalogue.categories[history.disliked] > 0
    weights = _recency_weights(len(history.liked), weighting)
    share = liked.T @ (weights / max(1e-9, weights.sum()))
    refused = disliked.T @ np.full(len(history.disliked), 1.0 / max(1, len(history.disliked)))
    own = catalogue.categories[candidates]
    return {"category_share": own @ share, "category_disliked": own @ refused}


def _behaviour_features(
    moment: Moment, history: History, candidates: NDArray[np.int64], weighting: Weighting
) -> dict[str, NDArray[np.floating]]:
    """Relative to the highest of all items, for a log that grows must not shift the features."""
    num_items = len(moment.likes)
    recent = np.zeros(num_items)
    recent[history.liked[-weighting.num_recent :]] = 1.0
    even = np.zeros(num_items)
    even[history.liked] = 1.0 / max(1, len(history.liked))
    shown = np.bincount(history.shown, minlength=num_items)
    return {
        "together": _relative(moment.together(even, history.user))[candidates],
        "together_recent": _relative(moment.together(recent, history.user))[candidates],
        "likely": _relative(moment.likely(even, history.user))[candidates],
        "likely_recent": _relative(moment.likely(recent, history.user))[candidates],
        "walk": np.log(_relative(moment.walk(even, history.user))[candidates] + 1e-6),
        "shown": shown[candidates].astype(np.float64),
    }


def _item_features(
    catalogue: Catalogue, moment: Moment, history: History, candidates: NDArray[np.int64]
) -> dict[str, NDArray[np.floating]]:
    likes = np.log1p(moment.likes)
    usual = likes[history.liked].mean() if len(history.liked) else np.nan
    published = catalogue.published[candidates]
    ages = (moment.time - published) / 86_400.0
    popularity = np.log1p(moment.popularity)
    return {
        "popularity": (popularity - popularity.max(initial=0.0))[candidates],
        "likes": (likes - likes.max(initial=0.0))[candidates],
        "approval": moment.approval[candidates],
        "trend": (popularity - likes)[candidates],
        "age_days": np.where(np.isfinite(published), ages, np.nan),
        "user_likes": np.full(len(candidates), np.log1p(len(history.liked))),
        "user_popularity": likes[candidates] - usual,
    }


def _relative(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values / max(1e-12, values.max(initial=0.0)))


def _recency_weights(num_liked: int, weighting: Weighting) -> NDArray[np.float64]:
    """(liked,) 1 for the last, halving every half-life towards the first."""
    return np.exp2(-np.arange(num_liked - 1, -1, -1) / weighting.half_life)
