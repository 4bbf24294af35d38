"""A replica's part of a shared limit: what it holds, and what it last heard of the rest."""

from serve.quotas.lease_book import Grant

__all__ = ["LeasedRequests", "LeasedTokens"]


class LeasedRequests:
    """Requests held here, and how many are left elsewhere."""

    def __init__(self, per_minute: int, now: float) -> None:
        """Holds none."""
        self.capacity: float = per_minute
        self.held = 0
        self.recent = 0
        """Taken since this was last set to 0."""
        self._per_s = per_minute / 60
        self._elsewhere: float = per_minute
        self._heard_at = now
        self._next_at = now

    def take(self, now: float) -> bool:
        """Takes one that is held here."""
        del now
        if self.held < 1:
            return False
        self.held -= 1
        self.recent += 1
        return True

    def level(self, now: float) -> float:
        """What is held here and, as far as known, left elsewhere."""
        elsewhere = self._elsewhere + (now - self._heard_at) * self._per_s
        return min(self.capacity, self.held + elsewhere)

    def wait_s(self, now: float) -> float:
        """Seconds until asking for one makes sense."""
        return max(0.0, self._next_at - now)

    def reset_s(self, now: float) -> float:
        """Seconds until all is left."""
        return (self.capacity - self.level(now)) / self._per_s

    def apply(self, grant: Grant, now: float) -> None:
        """Adds what was given."""
        self.held += grant.requests
        self._elsewhere, self._heard_at = grant.remaining, now
        self._next_at = now + grant.wait_s


class LeasedTokens:
    """The balance of all replicas when it was last heard, less what was spent here since."""

    def __init__(self, per_minute: int, now: float) -> None:
        """A full balance, until another is heard."""
        self.capacity: float = per_minute
        self.spent = 0.0
        """Not yet in the balance."""
        self._reported = 0.0
        self._per_s = per_minute / 60
        self._balance: float = per_minute
        self._heard_at = now

    def charge(self, now: float, num: float) -> None:
        """Spends ``num``."""
        del now
        self.spent += num

    def level(self, now: float) -> float:
        """The balance, as far as known."""
        balance = self._balance + (now - self._heard_at) * self._per_s
        return min(self.capacity, balance) - self.spent

    def wait_s(self, now: float) -> float:
        """Seconds until it is positive."""
        return max(0.0, (1 - self.level(now)) / self._per_s)

    def reset_s(self, now: float) -> float:
        """Seconds until it is full."""
        return (self.capacity - self.level(now)) / self._per_s

    def report(self) -> float:
        """What has been spent; it counts here until a balance is heard that has it."""
        self._reported = self.spent
        return self._reported

    def apply(self, grant: Grant, now: float) -> None:
        """Takes up the balance, in which the report is."""
        self.spent -= self._reported
        self._reported = 0.0
        self._balance, self._heard_at = grant.tokens, now
