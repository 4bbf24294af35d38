"""Carrying messages from the outbox to the webhook until each is delivered or given up."""

import asyncio
import logging
from collections.abc import Callable

from serve.monitor.args import MonitorArgs
from serve.monitor.database import StoreUnavailableError
from serve.monitor.outbox import Delivery
from serve.monitor.store import Store
from serve.monitor.webhook import Webhook, WebhookError

__all__ = ["Courier"]

logger = logging.getLogger(__name__)

_LONGEST_WAIT_S = 3600.0
_LEASE_MARGIN_S = 30.0
_DATABASE_WAIT_S = 5.0
_LOOK_EVERY_S = 60.0
"""For messages of a request that was cut off while it was committed, or of another process."""


class Courier:
    """Delivers one message after another. Use it from one event loop."""

    def __init__(
        self,
        store: Store,
        webhook: Webhook,
        args: MonitorArgs,
        *,
        clock: Callable[[], float],
    ) -> None:
        """``clock`` tells epoch seconds."""
        self._store = store
        self._webhook = webhook
        self._args = args
        self._clock = clock
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There may be a new message."""
        self._wake.set()

    async def run(self) -> None:
        """Delivers until it is cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.deliver_due()
                due_ms = await asyncio.to_thread(self._store.next_due)
            except StoreUnavailableError:
                logger.exception("messages to the webhook wait for the database")
                await asyncio.sleep(_DATABASE_WAIT_S)
                continue
            wait_s = _LOOK_EVERY_S
            if due_ms is not None:
                wait_s = min(wait_s, max(0.0, due_ms / 1000 - self._clock()))
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def deliver_due(self) -> int:
        """Tries every message that is due, once; how many those were."""
        lease_ms = round((self._args.webhook_timeout_s + _LEASE_MARGIN_S) * 1000)
        num_tried = 0
        while delivery := await asyncio.to_thread(
            self._store.take_due, now_ms=self._now_ms(), lease_ms=lease_ms
        ):
            await self._deliver(delivery)
            num_tried += 1
        return num_tried

    async def _deliver(self, delivery: Delivery) -> None:
        error = ""
        retry_at_ms = None
        try:
            await self._webhook.send(
                delivery.id, delivery.body.encode(), timestamp=int(self._clock())
            )
        except WebhookError as problem:
            error = str(problem)
            retry_at_ms = self._retry_at_ms(delivery.num_attempts + 1)
            logger.warning(
                "message %s was not delivered (%s): %s",
                delivery.id,
                "it is given up" if retry_at_ms is None else "it will be tried again",
                error,
            )
        await asyncio.to_thread(self._store.settle, delivery, error=error, retry_at_ms=retry_at_ms)

    def _retry_at_ms(self, num_failures: int) -> int | None:
        if num_failures >= self._args.webhook_max_attempts:
            return None
        wait_s = self._args.webhook_retry_s * 2.0 ** min(num_failures - 1, 30)
        return self._now_ms() + round(min(wait_s, _LONGEST_WAIT_S) * 1000)

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)
