"""Why an item is shown, in sentences that name what they rest on."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from serve.recommend.catalogue import Catalogue, categories_of
from serve.recommend.features import text_similarities
from serve.recommend.history import History
from serve.recommend.moment import Moment

__all__ = ["Reason", "ReasonKind", "reasons_for"]

ReasonKind: TypeAlias = Literal["similar", "together", "category", "popular", "new"]

_SIMILAR = 0.3
"""Cosine from which two texts are called similar: below, the sentence would mislead."""
_TOGETHER = 2
"""So many other users must have liked both items: one is a coincidence, and could be told apart."""
_POPULAR = 0.1
"""Share of the candidates, the most popular, that are called popular."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One sentence and what it is about."""

    kind: ReasonKind
    text: str


def reasons_for(
    item: int,
    *,
    catalogue: Catalogue,
    moment: Moment,
    history: History,
    rank_by_popularity: int,
    num_candidates: int,
    new_days: float,
) -> list[Reason]:
    """The reasons for the item of a number, the ones about the user first; there may be none."""
    found = [
        _similar(item, catalogue, history),
        _together(item, catalogue, moment, history),
        _category(item, catalogue, history),
        _popular(item, moment, rank_by_popularity, num_candidates),
        _new(item, catalogue, moment, new_days),
    ]
    return [reason for reason in found if reason is not None]


def _similar(item: int, catalogue: Catalogue, history: History) -> Reason | None:
    if not len(history.liked):
        return None
    cosines = text_similarities(catalogue, np.asarray([item]), history.liked)[0]
    nearest = int(np.argmax(cosines))
    if cosines[nearest] < _SIMILAR:
        return None
    title = catalogue.items[history.liked[nearest]].title
    return Reason("similar", f"Reads like '{title}', liked before ({cosines[nearest]:.2f}).")


def _together(item: int, catalogue: Catalogue, moment: Moment, history: History) -> Reason | None:
    if not len(history.liked):
        return None
    counts = moment.liked_with(item, history.user)[history.liked]
    most = int(np.argmax(counts))
    if counts[most] < _TOGETHER:
        return None
    title = catalogue.items[history.liked[most]].title
    return Reason("together", f"{counts[most]} others who liked '{title}' liked this too.")


def _category(item: int, catalogue: Catalogue, history: History) -> Reason | None:
    liked = [categories_of(catalogue.items[number]) for number in history.liked]
    shares = {
        name: sum(name in names for names in liked) for name in categories_of(catalogue.items[item])
    }
    name = max(shares, key=lambda name: shares[name], default="")
    if not name or not shares[name]:
        return None
    return Reason("category", f"{shares[name]} of {len(liked)} liked items are '{name}' too.")


def _popular(
    item: int, moment: Moment, rank_by_popularity: int, num_candidates: int
) -> Reason | None:
    if moment.popularity[item] <= 0 or rank_by_popularity > max(1.0, _POPULAR * num_candidates):
        return None
    return Reason("popular", f"Popular now: number {rank_by_popularity} of {num_candidates}.")


def _new(item: int, catalogue: Catalogue, moment: Moment, new_days: float) -> Reason | None:
    days = (moment.time - catalogue.published[item]) / 86_400.0
    if not 0 <= days <= new_days:
        return None
    return Reason("new", "New: published today." if days < 1 else f"New: {days:.0f} days old.")
