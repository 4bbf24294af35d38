"""How much each key may ask: requests and tokens a minute, requests at the same time.

`LocalQuotas` counts in this process and is exact; it is what one replica uses. Several replicas
share one account of each key through `serve.quotas.shared`. The library `limits` was measured and
left: it takes 8 to 22 microseconds a request, knows no leases, and shares by asking a Redis about
every request.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from time import monotonic
from typing import Protocol

from serve.keys.api_key import ApiKey, KeyLimits
from serve.quotas.account import Account, Ticket
from serve.quotas.buckets import TokenBucket

__all__ = ["LocalQuotas", "Quotas"]


class Quotas(Protocol):
    """What the border asks about every request that has a key."""

    async def admit(self, key: ApiKey) -> Ticket | None:
        """A ticket to be released when the request ends; None where the key has no limit.

        Raises:
            ApiError: 429, with Retry-After.
        """

    def running(self) -> AbstractAsyncContextManager[None]:
        """Does what is to be done from time to time, within the context."""


class _LocalAccount(Account):
    """Allowances of this process."""

    requests: TokenBucket | None
    tokens: TokenBucket | None

    def adopt(self, limits: KeyLimits, now: float) -> None:
        self.limits = limits
        self.slots = limits.concurrent_requests or None
        self.requests = TokenBucket.minute(limits.requests_per_minute, now, self.requests)
        self.tokens = TokenBucket.minute(limits.tokens_per_minute, now, self.tokens)


class LocalQuotas:
    """Limits of one process."""

    def __init__(
        self, defaults: KeyLimits | None = None, *, clock: Callable[[], float] = monotonic
    ) -> None:
        """``defaults`` are for keys without limits of their own; ``clock`` gives seconds."""
        self._defaults = defaults or KeyLimits()
        self._clock = clock
        self._accounts: dict[str, tuple[ApiKey, _LocalAccount]] = {}

    async def admit(self, key: ApiKey) -> Ticket | None:
        """As `Quotas.admit`."""
        now = self._clock()
        known, account = self._accounts.get(key.name, (None, None))
        if account is None or known is not key:
            account = self._open(key, account, now)
        if account.is_free:
            return None
        refusal = account.admit(now)
        if refusal is not None:
            raise account.error(refusal, now)
        return Ticket(account, now, self._clock)

    def running(self) -> AbstractAsyncContextManager[None]:
        """There is nothing to do."""
        return nullcontext()

    def _open(self, key: ApiKey, account: _LocalAccount | None, now: float) -> _LocalAccount:
        """The key's account, with the limits of the key as it is now."""
        limits = key.limits.over(self._defaults)
        account = account or _LocalAccount(key.name)
        if account.limits != limits:
            account.adopt(limits, now)
        self._accounts[key.name] = (key, account)
        return account
