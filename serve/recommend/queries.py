"""Moments at which a user's next likes are known: what a ranker is trained and measured on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.recommend.catalogue import Catalogue
from serve.recommend.event_store import AnsweredRanking
from serve.recommend.events import EventLog
from serve.recommend.history import history_before
from serve.recommend.memory import Snapshot

__all__ = [
    "Query",
    "held_out_queries",
    "shown_queries",
    "split_time",
    "training_queries",
    "unseen_available",
]

_MOMENTS_A_USER = 8
_TARGETS = 20
"""A training query asks for so many of the user's next likes."""


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """At ``time``, what will ``user`` like?"""

    user: int
    time: float
    targets: NDArray[np.int64]
    """Items that the user liked at ``time`` or later and had not seen before."""
    grades: NDArray[np.int8]
    """How much, see `EventLog.grades`."""
    shown: NDArray[np.int64] | None = None
    """What the user chose from, where that is known; else negatives are drawn."""


def split_time(log: EventLog, holdout: float) -> float:
    """The moment after which the latest ``holdout`` of the likes happened."""
    times = log.times[log.grades > 0]
    return float(np.quantile(times, 1.0 - holdout)) if len(times) else -np.inf


def training_queries(
    log: EventLog,
    catalogue: Catalogue,
    *,
    min_history: int,
    max_queries: int,
    rng: np.random.Generator,
) -> list[Query]:
    """Up to eight moments of each user, the next 20 likes each; the latest ``max_queries``."""
    queries: list[Query] = []
    for user in np.unique(log.users):
        for time in _moments(log, int(user), min_history, -np.inf, _MOMENTS_A_USER, rng):
            query = _query(log, catalogue, int(user), time, _TARGETS)
            queries += [query] if len(query.targets) else []
    queries.sort(key=lambda query: query.time)
    return queries[-max_queries:]


def held_out_queries(
    log: EventLog,
    catalogue: Catalogue,
    *,
    since: float,
    min_history: int,
    rng: np.random.Generator,
) -> list[Query]:
    """One moment at ``since`` or later of each user who likes something then: all later likes."""
    queries = []
    for user in np.unique(log.users):
        for time in _moments(log, int(user), min_history, since, 1, rng):
            query = _query(log, catalogue, int(user), time, len(log))
            queries += [query] if len(query.targets) else []
    return queries


def shown_queries(
    snapshot: Snapshot, answered: Sequence[AnsweredRanking], *, before: float
) -> list[Query]:
    """Rankings that were shown and answered before a moment, as questions among what was shown."""
    numbers = snapshot.catalogue.numbers
    queries = []
    for ranking, answers in answered:
        known = [event for event in answers if event.item in numbers and event.time < before]
        log = EventLog.empty(snapshot.log.tastes).extended(
            known, users=[0] * len(known), items=[numbers[event.item] for event in known]
        )
        shown = np.asarray([numbers[item] for item, _ in ranking.shown if item in numbers], int)
        liked = np.isin(log.items, shown) & (log.grades > 0)
        targets, grades = _highest(log.items[liked], log.grades[liked])
        user = snapshot.users.get(ranking.user or "", -1)
        if ranking.time < before and 0 < len(targets) < len(shown):
            queries.append(Query(user, ranking.time, targets, grades, shown))
    return queries


def unseen_available(
    catalogue: Catalogue, time: float, seen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Numbers of the items that existed at ``time``, without ``seen``."""
    usable = catalogue.published <= time
    usable[seen] = False
    return np.flatnonzero(usable)


def _moments(
    log: EventLog,
    user: int,
    min_history: int,
    since: float,
    num_moments: int,
    rng: np.random.Generator,
) -> list[float]:
    """Times at which the user liked something new, drawn among those with likes before them.

    A moment is the less probable the longer its history, so that short histories, which most
    users have, are as frequent as long ones on a logarithmic scale.
    """
    positions = log.of_user(user)
    times = log.times[positions[log.firsts[positions]]]
    possible = np.unique(times)
    num_before = np.searchsorted(times, possible)
    usable = (num_before >= min_history) & (possible >= since)
    possible, weights = possible[usable], 1.0 / num_before[usable]
    size = min(num_moments, len(possible))
    if not size:
        return []
    drawn = rng.choice(possible, size=size, replace=False, p=weights / weights.sum())
    return [float(time) for time in drawn]


def _query(log: EventLog, catalogue: Catalogue, user: int, time: float, num_targets: int) -> Query:
    history = history_before(log, user, time, max_liked=1)
    positions = log.of_user(user)
    later = positions[(log.times[positions] >= time) & (log.grades[positions] > 0)]
    allowed = np.isin(log.items[later], history.seen, invert=True)
    allowed &= catalogue.published[log.items[later]] <= time
    later = later[allowed]
    targets, grades = _highest(log.items[later], log.grades[later])
    first = slice(num_targets)
    return Query(user, time, targets[first], grades[first])


def _highest(
    items: NDArray[np.int32], grades: NDArray[np.int8]
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Each item once, in the order of its first place, with its highest grade."""
    unique, places = np.unique(items, return_index=True)
    highest = np.zeros(len(unique), np.int8)
    np.maximum.at(highest, np.searchsorted(unique, items), grades)
    order = np.argsort(places)
    return unique[order].astype(np.int64), highest[order]
