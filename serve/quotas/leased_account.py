"""One key at one of several replicas: what it holds of the shared account.

`demand` and `apply` are the two halves of an exchange with `serve.quotas.lease_book`. Between
them requests go on here, but only with what `demand` has said stays here.
"""

from collections.abc import Callable

from serve.keys.api_key import KeyLimits
from serve.quotas.account import Account, Limit, Refusal
from serve.quotas.lease_book import Demand, Grant
from serve.quotas.leased_allowances import LeasedRequests, LeasedTokens

__all__ = ["LeasedAccount"]

_STANDING_REQUESTS = 16
_STANDING_SLOTS = 4
"""The replicas together keep at most this fraction of a limit at hand while nothing comes, so
that a client who comes seldom need not wait for a grant."""
_ASK_AGAIN_S = 0.02
"""Between two questions for slots of which there are none."""


class LeasedAccount(Account):
    """See the module."""

    __slots__ = ("_ask_at", "_on_release", "is_shedding", "is_touched", "peak", "waiting")

    requests: LeasedRequests | None
    tokens: LeasedTokens | None

    def __init__(self, name: str, on_release: Callable[["LeasedAccount"], None]) -> None:
        """Without limits, and holding nothing; ``on_release`` hears of every request's end."""
        super().__init__(name)
        self._on_release = on_release
        self.waiting = 0
        """Requests that wait for a grant."""
        self.peak = 0
        """The most requests at the same time since slots were last shed."""
        self.is_touched = False
        """Whether a request has come since it was last settled."""
        self.is_shedding = False
        """Whether its slots are about to be looked at."""
        self._ask_at = 0.0

    def adopt(self, limits: KeyLimits, now: float) -> None:
        """Takes up limits; what is held under others is dropped."""
        self.limits = limits
        requests, tokens = limits.requests_per_minute, limits.tokens_per_minute
        self.requests = LeasedRequests(requests, now) if requests else None
        self.tokens = LeasedTokens(tokens, now) if tokens else None
        self.slots = self.active if limits.concurrent_requests else None

    def admit(self, now: float) -> Refusal | None:
        """As `Account.admit`, with what is held here."""
        self.is_touched = True
        refusal = super().admit(now)
        if refusal is None and self.active > self.peak:
            self.peak = self.active
        return refusal

    def release(self) -> None:
        """As `Account.release`."""
        super().release()
        self._on_release(self)

    def may_ask(self, limit: Limit, now: float) -> bool:
        """Whether asking for what a request was refused for could help."""
        if limit is Limit.REQUESTS:
            return self.requests is not None and self.requests.wait_s(now) == 0
        return limit is Limit.CONCURRENCY and now >= self._ask_at

    def is_low(self, num_replicas: int, now: float) -> bool:
        """Whether the next request would wait for a grant that could be fetched before."""
        requests, slots = self._standing(num_replicas)
        if requests and self.requests is not None and self.requests.held == 0:
            return self.may_ask(Limit.REQUESTS, now)
        if slots and self.slots is not None and self.slots <= self.active:
            return self.may_ask(Limit.CONCURRENCY, now)
        return False

    def is_unsettled(self, num_replicas: int) -> bool:
        """Whether there is something to say or to give back."""
        if self.is_touched or (self.tokens is not None and self.tokens.spent > 0):
            return True
        return self.requests is not None and self.requests.held > self._standing(num_replicas)[0]

    def has_spare_slots(self, num_replicas: int) -> bool:
        """Whether slots are held that others may need."""
        standing = self._standing(num_replicas)[1]
        return self.slots is not None and self.slots > self.active + standing

    def shed_slots(self, num_replicas: int) -> None:
        """Lets go of slots beyond those needed lately; the next demand gives them back."""
        if self.slots is not None:
            standing = self._standing(num_replicas)[1]
            self.slots = min(self.slots, max(self.active + standing, self.peak))
        self.peak = self.active

    def demand(self, num_replicas: int) -> Demand:
        """Asks for what is missing and keeps the rest."""
        requests, slots = self._standing(num_replicas)
        held = recent = 0
        if self.requests is not None:
            held, recent = self.requests.held, self.requests.recent
            self.requests.recent = 0
        return Demand(
            key=self.name,
            limits=self.limits,
            held=held,
            wanted=max(self.waiting, requests - held, 2 * recent - held),
            slots=self.slots or 0,
            slots_wanted=max(0, self.active + max(self.waiting, slots) - (self.slots or 0)),
            spent_tokens=self.tokens.report() if self.tokens is not None else 0.0,
        )

    def settlement(self, num_replicas: int) -> Demand:
        """Says what is here and gives back what has not been needed lately; asks for nothing."""
        standing = self._standing(num_replicas)[0]
        returned = 0
        if self.requests is not None:
            keep = min(self.requests.held, max(standing, 2 * self.requests.recent))
            returned = self.requests.held - keep
            self.requests.held = keep
            self.requests.recent = 0
        self.shed_slots(num_replicas)
        self.is_touched = False
        return Demand(
            key=self.name,
            limits=self.limits,
            held=self.requests.held if self.requests is not None else 0,
            returned=returned,
            slots=self.slots or 0,
            spent_tokens=self.tokens.report() if self.tokens is not None else 0.0,
        )

    def apply(self, grant: Grant, demand: Demand, now: float) -> None:
        """Adds what was granted, unless the limits have changed meanwhile."""
        if demand.limits != self.limits:
            return
        if self.requests is not None:
            self.requests.apply(grant, now)
        if self.tokens is not None:
            self.tokens.apply(grant, now)
        if self.slots is not None:
            self.slots += grant.slots
            if grant.slots < demand.slots_wanted:
                self._ask_at = now + _ASK_AGAIN_S

    def _standing(self, num_replicas: int) -> tuple[int, int]:
        """Requests and slots to keep at hand."""
        requests = self.limits.requests_per_minute or 0
        slots = self.limits.concurrent_requests or 0
        return requests // (_STANDING_REQUESTS * num_replicas), slots // (
            _STANDING_SLOTS * num_replicas
        )
