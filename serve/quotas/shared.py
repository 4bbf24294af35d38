"""Limits that several replicas share, without a remote call a request.

Each replica spends what it holds of a key's account and talks to the book of all accounts
(`serve.quotas.lease_book`) once a second, and when a key needs more than is held here: about a
millisecond then. All replicas together admit no more than one would. They may refuse sooner: what
one replica holds another cannot give, at most a quarter of what is left, for a second; and a
request waits up to a tenth of a second for slots that others are about to give back.

Where the book does not answer, each replica admits its equal part of every limit by itself. A book
that was lost begins anew with full buckets, so that up to one more minute's worth may be admitted.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic
from typing import Protocol

from serve.background import in_background
from serve.keys.api_key import ApiKey, KeyLimits
from serve.quotas.account import Limit, Refusal, Ticket
from serve.quotas.lease_book import Demand, Reply
from serve.quotas.leased_account import LeasedAccount
from serve.quotas.local import LocalQuotas

__all__ = ["Book", "SharedQuotas"]

logger = logging.getLogger(__name__)

_EVERY_S = 1.0
_TIMEOUT_S = 0.5
_START_TIMEOUT_S = 20.0
_PATIENCE_S = 0.1
_PAUSE_S = 0.025
_SHED_AFTER_S = 0.02
"""Slots that are not needed for this long go back, so that other replicas can use them well
within their patience."""


class Book(Protocol):
    """The book of all accounts, wherever it is."""

    async def exchange(self, replica: str, demands: Sequence[Demand]) -> Reply:
        """As `serve.quotas.lease_book.LeaseBook.exchange`.

        Raises:
            OSError: it cannot be reached.
        """


class SharedQuotas:
    """Limits of one of several replicas."""

    def __init__(
        self,
        defaults: KeyLimits | None = None,
        *,
        book: Book,
        replica: str,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``replica`` is a name that no other one has, and a restarted one not again."""
        self._defaults = defaults or KeyLimits()
        self._book = book
        self._replica = replica
        self._clock = clock
        self._accounts: dict[str, tuple[ApiKey, LeasedAccount]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._num_replicas = 1
        self._is_connected = True
        self._is_unknown = False
        self._alone = LocalQuotas(clock=clock)

    async def admit(self, key: ApiKey) -> Ticket | None:
        """As `serve.quotas.local.Quotas.admit`."""
        account = self._account(key)
        if account.is_free:
            return None
        now = self._clock()
        refusal = account.admit(now)
        if refusal is not None:
            refusal = await self._ask_for(account, refusal)
        elif account.is_low(self._num_replicas, now):
            self._ask(account)
        if refusal is None:
            return Ticket(account, self._clock(), self._clock)
        if not self._is_connected:
            return await self._alone.admit(self._part_of(key))
        raise account.error(refusal, self._clock())

    def running(self) -> AbstractAsyncContextManager[None]:
        """Talks to the book once a second, within the context."""
        return self._running()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        await self._exchange((), timeout_s=_START_TIMEOUT_S)
        async with in_background(self._talk):
            yield

    async def _talk(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            due = [
                account
                for _, account in self._accounts.values()
                if account.name not in self._asking
                and (self._is_unknown or account.is_unsettled(self._num_replicas))
            ]
            self._is_unknown = False
            await self._start(due, settle=True)

    def _account(self, key: ApiKey) -> LeasedAccount:
        known, account = self._accounts.get(key.name, (None, None))
        if account is None or known is not key:
            limits = key.limits.over(self._defaults)
            account = account or LeasedAccount(key.name, self._released)
            if account.limits != limits:
                account.adopt(limits, self._clock())
            self._accounts[key.name] = (key, account)
        return account

    async def _ask_for(self, account: LeasedAccount, refusal: Refusal) -> Refusal | None:
        """None once the request is admitted with what the book has given, else why not."""
        ends_at = self._clock() + _PATIENCE_S
        account.waiting += 1
        try:
            while self._is_connected and refusal.limit is not Limit.TOKENS:
                if account.may_ask(refusal.limit, self._clock()):
                    await asyncio.shield(self._ask(account))
                elif refusal.limit is Limit.CONCURRENCY and self._clock() < ends_at:
                    await asyncio.sleep(_PAUSE_S)
                else:
                    break
                again = account.admit(self._clock())
                if again is None:
                    return None
                refusal = again
        finally:
            account.waiting -= 1
        return refusal

    def _ask(self, account: LeasedAccount) -> asyncio.Task[None]:
        """The exchange under way for the account, or a new one."""
        return self._asking.get(account.name) or self._start([account], settle=False)

    def _start(self, accounts: Sequence[LeasedAccount], *, settle: bool) -> asyncio.Task[None]:
        task = asyncio.create_task(self._exchange(accounts, settle=settle))
        for account in accounts:
            self._asking[account.name] = task
        return task

    async def _exchange(
        self,
        accounts: Sequence[LeasedAccount],
        *,
        settle: bool = False,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        num = self._num_replicas
        demands = [one.settlement(num) if settle else one.demand(num) for one in accounts]
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._book.exchange(self._replica, demands)
        except (TimeoutError, OSError) as error:
            self._lose(error)
            return
        finally:
            for account in accounts:
                del self._asking[account.name]
        now = self._clock()
        for account, demand, grant in zip(accounts, demands, reply.grants, strict=True):
            account.apply(grant, demand, now)
        self._num_replicas = reply.num_replicas
        self._is_unknown |= reply.is_new
        if not self._is_connected:
            logger.warning("the book of limits answers again")
            self._is_connected = True

    def _released(self, account: LeasedAccount) -> None:
        """Looks a moment later whether slots can go back."""
        if not account.is_shedding and account.has_spare_slots(self._num_replicas):
            account.is_shedding = True
            account.peak = account.active
            asyncio.get_running_loop().call_later(_SHED_AFTER_S, self._shed, account)

    def _shed(self, account: LeasedAccount) -> None:
        account.is_shedding = False
        if account.name not in self._asking:
            account.shed_slots(self._num_replicas)
            self._ask(account)
        self._released(account)

    def _lose(self, error: Exception) -> None:
        if self._is_connected:
            logger.warning(
                "the book of limits does not answer (%r); each of %d replicas admits its part",
                error,
                self._num_replicas,
            )
            self._is_connected = False

    def _part_of(self, key: ApiKey) -> ApiKey:
        """The key with an equal part of its limits."""
        limits = key.limits.over(self._defaults).divided(self._num_replicas)
        return key.model_copy(update={"limits": limits})
