"""What users did, as values and as one log of arrays in the order of time.

Pure numpy: the log knows users and items by their number. What an event is worth is said here
once, for features, training and evaluation alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "Event", "EventLog", "Kind", "Tastes"]

Kind: TypeAlias = Literal["impression", "click", "like", "purchase", "rating", "hide"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_IMPRESSION, _CLICK, _LIKE, _PURCHASE, _RATING, _HIDE = range(len(KINDS))


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it is stored."""

    id: str
    user: str
    item: str
    kind: Kind
    time: float
    """Seconds since 1970, UTC."""
    value: float | None = None
    """The rating, or whatever the client counts."""
    ranking_id: str | None = None
    """The ranking that showed the item."""
    position: int | None = None
    """Its place there, from 0."""


@dataclass(frozen=True, slots=True)
class Tastes:
    """From which rating on a rating is a like, and up to which it is a dislike."""

    liked_rating: float
    disliked_rating: float


class EventLog:
    """Events as arrays, sorted by time; events of one time keep their order of arrival."""

    def __init__(
        self,
        *,
        times: NDArray[np.float64],
        users: NDArray[np.int32],
        items: NDArray[np.int32],
        kinds: NDArray[np.int8],
        values: NDArray[np.float32],
        tastes: Tastes,
    ) -> None:
        """Arrays of one length in any order; ``values`` is NaN where there is none."""
        order = np.argsort(times, kind="stable")
        self.times = times[order]
        self.users = users[order]
        self.items = items[order]
        self.kinds = kinds[order]
        self.values = values[order]
        self.tastes = tastes

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def empty(cls, tastes: Tastes) -> "EventLog":
        """A log without events."""
        return cls(
            times=np.empty(0, np.float64),
            users=np.empty(0, np.int32),
            items=np.empty(0, np.int32),
            kinds=np.empty(0, np.int8),
            values=np.empty(0, np.float32),
            tastes=tastes,
        )

    @cached_property
    def grades(self) -> NDArray[np.int8]:
        """What each event is worth: purchase 3, like or high rating 2, click 1, else 0."""
        worth = np.zeros(len(KINDS), np.int8)
        worth[[_CLICK, _LIKE, _PURCHASE]] = (1, 2, 3)
        grades = worth[self.kinds]
        grades[(self.kinds == _RATING) & (self.values >= self.tastes.liked_rating)] = 2
        return grades

    @cached_property
    def dislikes(self) -> NDArray[np.bool_]:
        """Whether an event says that the user does not want the item."""
        low = (self.kinds == _RATING) & (self.values <= self.tastes.disliked_rating)
        return np.asarray(low | self.hides)

    @cached_property
    def hides(self) -> NDArray[np.bool_]:
        """Whether an event takes the item out of the user's rankings."""
        return np.asarray(self.kinds == _HIDE)

    @cached_property
    def impressions(self) -> NDArray[np.bool_]:
        """Whether the item was only shown."""
        return np.asarray(self.kinds == _IMPRESSION)

    @cached_property
    def firsts(self) -> NDArray[np.bool_]:
        """Whether an event is the first by which its user liked its item."""
        liked = np.flatnonzero(self.grades > 0)
        pairs = self.users[liked].astype(np.int64) << 32 | self.items[liked].astype(np.int64)
        _, positions = np.unique(pairs, return_index=True)
        firsts = np.zeros(len(self), np.bool_)
        firsts[liked[positions]] = True
        return firsts

    def num_before(self, time: float) -> int:
        """How many events are strictly older than ``time``: all that may be known then."""
        return int(np.searchsorted(self.times, time, side="left"))

    def of_user(self, user: int) -> NDArray[np.int64]:
        """Positions of a user's events, oldest first."""
        offsets, order = self._by_user
        if user + 1 >= len(offsets):
            return np.empty(0, np.int64)
        return order[offsets[user] : offsets[user + 1]]

    def before(self, time: float) -> "EventLog":
        """The log as it was just before ``time``."""
        return self.at(np.arange(self.num_before(time)))

    def at(self, positions: NDArray[np.int64]) -> "EventLog":
        """The events at ``positions``."""
        return EventLog(
            times=self.times[positions],
            users=self.users[positions],
            items=self.items[positions],
            kinds=self.kinds[positions],
            values=self.values[positions],
            tastes=self.tastes,
        )

    def latest(self, num_events: int) -> "EventLog":
        """The log without all but its ``num_events`` latest events."""
        if len(self) <= num_events:
            return self
        return self.at(np.arange(len(self) - num_events, len(self)))

    def extended(
        self,
        events: Sequence[Event],
        *,
        users: Sequence[int],
        items: Sequence[int],
    ) -> "EventLog":
        """With ``events`` added, whose users and items have these numbers."""
        values = [np.nan if event.value is None else event.value for event in events]
        kinds = [KINDS.index(event.kind) for event in events]
        return EventLog(
            times=np.concatenate([self.times, [event.time for event in events]]),
            users=np.concatenate([self.users, np.asarray(users, np.int32)]),
            items=np.concatenate([self.items, np.asarray(items, np.int32)]),
            kinds=np.concatenate([self.kinds, np.asarray(kinds, np.int8)]),
            values=np.concatenate([self.values, np.asarray(values, np.float32)]),
            tastes=self.tastes,
        )

    @cached_property
    def _by_user(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        num_users = int(self.users.max()) + 1 if len(self) else 0
        order = np.argsort(self.users, kind="stable")
        counts = np.bincount(self.users, minlength=num_users)
        return np.concatenate([[0], np.cumsum(counts)]), order
