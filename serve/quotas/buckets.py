"""A token bucket: so much at once, and so much a minute after that.

In any window of ``t`` seconds it gives at most ``capacity + per_s * t``. The clock is the
caller's, so that many buckets share one reading of it and tests need none.
"""

__all__ = ["TokenBucket"]

_ROUNDING = 1e-9


class TokenBucket:
    """Full at first; what is taken comes back evenly."""

    __slots__ = ("_at", "_level", "capacity", "ceiling", "per_s")

    def __init__(self, capacity: float, per_s: float, now: float) -> None:
        """Holds at most ``capacity``, refilled by ``per_s`` a second."""
        self.capacity = capacity
        self.per_s = per_s
        self.ceiling = capacity
        """Up to where it refills; less than the capacity while some is lent out."""
        self._level = capacity
        self._at = now

    def level(self, now: float) -> float:
        """What is in it; below zero where more was charged than was there."""
        if now > self._at:
            self._level = min(self._level + (now - self._at) * self.per_s, self.ceiling)
            self._at = now
        return self._level

    def take(self, now: float, num: float = 1.0) -> bool:
        """Takes ``num`` where that much is there, else nothing."""
        if self.level(now) < num - _ROUNDING:
            return False
        self._level -= num
        return True

    def charge(self, now: float, num: float) -> None:
        """Takes ``num`` even where that leaves less than nothing; negative gives back."""
        self._level = min(self.level(now) - num, self.ceiling)

    def set_ceiling(self, now: float, ceiling: float) -> None:
        """Refills up to ``ceiling`` from now on, and drops what is above it."""
        level = self.level(now)
        self.ceiling = ceiling
        self._level = min(level, ceiling)

    def wait_s(self, now: float, num: float = 1.0) -> float:
        """Seconds until ``num`` is there."""
        return max(0.0, (num - self.level(now)) / self.per_s)

    def reset_s(self, now: float) -> float:
        """Seconds until it is full."""
        return max(0.0, (self.capacity - self.level(now)) / self.per_s)

    @classmethod
    def minute(
        cls, per_minute: int | None, now: float, previous: "TokenBucket | None"
    ) -> "TokenBucket | None":
        """For a limit a minute: that much at once; None where the limit is None or 0.

        From the new one as much is missing as from ``previous``.
        """
        if not per_minute:
            return None
        bucket = cls(per_minute, per_minute / 60, now)
        if previous is not None:
            bucket.charge(now, min(per_minute, previous.capacity - previous.level(now)))
        return bucket
