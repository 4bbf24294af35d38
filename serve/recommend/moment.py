"""What is known of all items at a moment: popularity, approval, who liked what with what.

Everything here is computed from events strictly older than the moment, in serving, training and
evaluation alike; a later event cannot reach a feature.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from serve.recommend.events import EventLog

__all__ = ["Moment"]

_DAY_S = 86_400.0
_PRIOR = 5.0
"""Opinions that an item starts with, at the average approval."""


class Moment:
    """The log as it was just before ``time``."""

    def __init__(
        self, log: EventLog, time: float, *, num_items: int, half_life_days: float
    ) -> None:
        """``half_life_days`` is that of popularity."""
        self.time = time
        self._log = log
        self._num_events = log.num_before(time)
        self._num_items = num_items
        self._half_life_s = half_life_days * _DAY_S

    @cached_property
    def popularity(self) -> NDArray[np.float64]:
        """(items,) the worth of events, an event of one half-life ago counting half."""
        end = self._num_events
        ages = (self.time - self._log.times[:end]) / self._half_life_s
        return self._per_item(self._log.grades[:end] * np.exp2(-ages))

    @cached_property
    def likes(self) -> NDArray[np.float64]:
        """(items,) how many users liked each."""
        _, items = self._pairs
        return np.bincount(items, minlength=self._num_items).astype(np.float64)

    @cached_property
    def approval(self) -> NDArray[np.float64]:
        """(items,) share of likes among opinions, drawn to the average where there are few."""
        end = self._num_events
        liked = self._per_item(self._log.grades[:end] > 0)
        opinions = self._per_item((self._log.grades[:end] > 0) | ~self._log.impressions[:end])
        average = liked.sum() / max(1.0, opinions.sum())
        return np.asarray((liked + _PRIOR * average) / (opinions + _PRIOR))

    def together(self, weights: NDArray[np.float64], user: int) -> NDArray[np.float64]:
        """(items,) sum of the cosines to the weighted items, over who liked both.

        The cosine of two items' columns of likes, as of item-based nearest neighbours with all
        neighbours; ``user`` is left out, for what he likes later is what is to be told.
        """
        return self._spread(weights, user, own_power=0.5, user_power=0.0, other_power=0.5)

    def walk(self, weights: NDArray[np.float64], user: int) -> NDArray[np.float64]:
        """(items,) where a random walk from the weighted items over their users ends.

        RP3beta, Paudel et al. 2017, doi:10.1145/2955101, with beta 0.5.
        """
        return self._spread(weights, user, own_power=1.0, user_power=1.0, other_power=0.5)

    def likely(self, weights: NDArray[np.float64], user: int) -> NDArray[np.float64]:
        """(items,) how often those who liked the weighted items liked each, popularity included.

        As `together` without the division by the other item's likes, and with heavy users
        counting less: with few likes to go by, what is popular among alike users is the best bet.
        """
        return self._spread(weights, user, own_power=0.5, user_power=0.5, other_power=0.0)

    def liked_with(self, item: int, user: int) -> NDArray[np.int64]:
        """(items,) how many users other than ``user`` liked each beside ``item``."""
        users, items = self._pairs
        fans = np.zeros(self._num_users, np.bool_)
        fans[users[items == item]] = True
        if 0 <= user < len(fans):
            fans[user] = False
        return np.bincount(items[fans[users]], minlength=self._num_items)

    def _spread(
        self,
        weights: NDArray[np.float64],
        user: int,
        *,
        own_power: float,
        user_power: float,
        other_power: float,
    ) -> NDArray[np.float64]:
        users, items = self._pairs
        num_likes = np.maximum(1.0, self.likes)
        by_user = _sums(users, (weights / num_likes**own_power)[items], self._num_users)
        by_user /= np.maximum(1.0, self._likes_by_user) ** user_power
        if 0 <= user < len(by_user):
            by_user[user] = 0.0
        return _sums(items, by_user[users], self._num_items) / num_likes**other_power

    @cached_property
    def _num_users(self) -> int:
        users, _ = self._pairs
        return int(users.max(initial=-1)) + 1

    @cached_property
    def _likes_by_user(self) -> NDArray[np.float64]:
        users, _ = self._pairs
        return np.bincount(users, minlength=self._num_users).astype(np.float64)

    @cached_property
    def _pairs(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Users and items of likes, each pair once."""
        firsts = np.flatnonzero(self._log.firsts[: self._num_events])
        return self._log.users[firsts], self._log.items[firsts]

    def _per_item(self, weights: NDArray[np.generic]) -> NDArray[np.float64]:
        return _sums(self._log.items[: self._num_events], weights, self._num_items)


def _sums(
    places: NDArray[np.int32], weights: NDArray[np.generic], size: int
) -> NDArray[np.float64]:
    """(size,) the sum of the weights at each place."""
    sums = np.bincount(places, weights=weights, minlength=size)
    return sums.astype(np.float64, copy=False)  # integers, where there is nothing to sum
