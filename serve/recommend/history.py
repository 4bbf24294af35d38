"""What one user liked, disliked, hid and saw before a moment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve.recommend.events import EventLog

__all__ = ["History", "history_before"]


@dataclass(frozen=True, slots=True)
class History:
    """Numbers of items; an item's last word counts, so a like after a hide takes it back."""

    liked: NDArray[np.int64]
    """Each once, the one that was liked last at the end."""
    disliked: NDArray[np.int64]
    hidden: NDArray[np.int64]
    seen: NDArray[np.int64]
    """Everything the user did something with, beyond being shown it."""
    shown: NDArray[np.int64]
    """Items of impressions, once per impression."""
    user: int
    """Number of the user in the log; -1 for one who is not in it."""


def history_before(
    log: EventLog, user: int, time: float, *, added: Sequence[int] = (), max_liked: int
) -> History:
    """The history of ``user`` from events older than ``time``, then ``added`` as the last likes.

    ``user`` is -1 for someone whom the log does not know.
    """
    positions = log.of_user(user) if user >= 0 else np.empty(0, np.int64)
    positions = positions[log.times[positions] < time]
    items = log.items[positions].astype(np.int64)
    liked = log.grades[positions] > 0
    opinions = liked | log.dislikes[positions]
    words = liked | log.hides[positions]
    extra = np.asarray(added, np.int64)
    shown = log.impressions[positions]
    all_liked = _last_once(
        np.concatenate([_where_last(items[opinions], liked[opinions]), extra]),
    )
    hidden = _where_last(items[words], ~liked[words])
    return History(
        liked=all_liked[-max_liked:],
        disliked=np.setdiff1d(_where_last(items[opinions], ~liked[opinions]), extra),
        hidden=np.setdiff1d(hidden, extra),
        seen=np.union1d(items[~shown], extra),
        shown=items[shown],
        user=user,
    )


def _where_last(items: NDArray[np.int64], flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The items whose last flag is set, in the order of their last place."""
    last = _last_places(items)
    return items[last[flags[last]]]


def _last_once(items: NDArray[np.int64]) -> NDArray[np.int64]:
    return items[_last_places(items)]


def _last_places(items: NDArray[np.int64]) -> NDArray[np.int64]:
    _, reversed_places = np.unique(items[::-1], return_index=True)
    return np.sort(len(items) - 1 - reversed_places)
