"""The shared account of each key: what several replicas draw their allowances from.

A replica holds some requests of a key's bucket and spends them by itself. What it holds is still
the key's: the bucket refills only up to its capacity less what is held, so all replicas together
admit, in any window of ``t`` seconds, at most what one bucket would: a minute's worth and the
refill of ``t``. Requests at the same time are lent one by one, and never more than the limit.
Tokens are charged afterwards, so their balance is told, not lent.

Plain Python with a clock; `serve.quotas.actor` places it where every replica reaches it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from serve.keys.api_key import KeyLimits
from serve.quotas.buckets import TokenBucket

__all__ = ["Demand", "Grant", "LeaseBook", "Reply"]

_SILENT_S = 10.0
"""After this a replica is taken for dead, and what it held for given back."""
_SHARE = 4
"""One grant is at most this fraction of what is left, divided by the replicas."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a replica says of one key, and what it asks for."""

    key: str
    limits: KeyLimits
    """In force; None and 0: no limit."""
    held: int = 0
    """Requests that it goes on holding."""
    returned: int = 0
    """Requests that it gives back."""
    wanted: int = 0
    """Requests that it would like to have beside them."""
    slots: int = 0
    """Requests at the same time that it goes on holding."""
    slots_wanted: int = 0
    """And would like to have beside them."""
    spent_tokens: float = 0.0
    """Tokens charged since it last said so."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a replica gets."""

    requests: int = 0
    remaining: float = 0.0
    """Requests left for everybody."""
    wait_s: float = 0.0
    """Until one is left; 0 where one was given or none was wanted."""
    slots: int = 0
    tokens: float = 0.0
    """The balance."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A grant for each demand."""

    grants: tuple[Grant, ...]
    num_replicas: int
    is_new: bool
    """Nothing is known of the replica: it should say what it holds of every key."""


@dataclass(slots=True)
class _Shared:
    """One key."""

    limits: KeyLimits | None = None
    requests: TokenBucket | None = None
    tokens: TokenBucket | None = None
    held: dict[str, int] = field(default_factory=dict)
    """Requests by replica, as of its last word."""
    slots: dict[str, int] = field(default_factory=dict)

    def adopt(self, limits: KeyLimits, now: float) -> None:
        """Takes up limits that have changed; what has been used stays used."""
        self.limits = limits
        self.requests = TokenBucket.minute(limits.requests_per_minute, now, self.requests)
        self.tokens = TokenBucket.minute(limits.tokens_per_minute, now, self.tokens)

    def forget(self, replica: str, now: float) -> None:
        """Frees what a dead replica has held."""
        self.held.pop(replica, None)
        self.slots.pop(replica, None)
        self._bound(now)

    def lend_requests(self, replica: str, demand: Demand, share: float, now: float) -> int:
        """Requests for a replica, after it has said what it holds and given some back."""
        if self.requests is None:
            return 0
        self.held[replica] = demand.held
        self._bound(now)
        self.requests.charge(now, -demand.returned)
        most = max(1, int(self.requests.level(now) * share))
        num = min(demand.wanted, most)
        if num and not self.requests.take(now, num):
            num = 0
        self.held[replica] += num
        self._bound(now)
        return num

    def lend_slots(self, replica: str, demand: Demand) -> int:
        """Requests at the same time for a replica."""
        limit = (self.limits and self.limits.concurrent_requests) or 0
        self.slots[replica] = demand.slots
        num = max(0, min(demand.slots_wanted, limit - sum(self.slots.values())))
        self.slots[replica] += num
        return num

    def _bound(self, now: float) -> None:
        if self.requests is not None:
            lent = sum(self.held.values())
            self.requests.set_ceiling(now, max(0.0, self.requests.capacity - lent))


class LeaseBook:
    """Who holds what of which key."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Every bucket is full. ``clock`` gives seconds."""
        self._clock = clock
        self._keys: dict[str, _Shared] = {}
        self._heard_at: dict[str, float] = {}

    def exchange(self, replica: str, demands: Sequence[Demand]) -> Reply:
        """Notes what a replica says and grants what is there; without demands a sign of life."""
        now = self._clock()
        is_new = replica not in self._heard_at
        self._heard_at[replica] = now
        self._forget_the_silent(now)
        grants = tuple(self._grant(replica, demand, now) for demand in demands)
        return Reply(grants, len(self._heard_at), is_new)

    def _grant(self, replica: str, demand: Demand, now: float) -> Grant:
        shared = self._keys.setdefault(demand.key, _Shared())
        if shared.limits != demand.limits:
            shared.adopt(demand.limits, now)
        num = shared.lend_requests(replica, demand, 1 / (_SHARE * len(self._heard_at)), now)
        tokens = 0.0
        if shared.tokens is not None:
            shared.tokens.charge(now, demand.spent_tokens)
            tokens = shared.tokens.level(now)
        bucket = shared.requests
        return Grant(
            requests=num,
            remaining=bucket.level(now) if bucket else 0.0,
            wait_s=bucket.wait_s(now) if bucket and demand.wanted and not num else 0.0,
            slots=shared.lend_slots(replica, demand),
            tokens=tokens,
        )

    def _forget_the_silent(self, now: float) -> None:
        silent = [name for name, at in self._heard_at.items() if now - at > _SILENT_S]
        for replica in silent:
            del self._heard_at[replica]
            for shared in self._keys.values():
                shared.forget(replica, now)
