"""The opinion monitor: reads items with the model, keeps them, and answers what it is asked.

An item is acknowledged after it is committed and never before. A request is taken whole or, where
the model's queue or the database has no room for it, not at all; items that the model cannot read
are named one by one.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from ray_sft.core import ServeError
from serve.monitor.args import MonitorArgs
from serve.monitor.courier import Courier
from serve.monitor.ingest import Reading
from serve.monitor.item import Item
from serve.monitor.messages import message
from serve.monitor.opinion import Analyse
from serve.monitor.queries import ItemQuery
from serve.monitor.reader import Reader
from serve.monitor.schema import (
    Alert,
    ItemPage,
    Receipt,
    RejectedItem,
    TopicList,
    WebhookTest,
    WindowList,
)
from serve.monitor.store import Store
from serve.monitor.webhook import Webhook, WebhookError

__all__ = ["Monitor"]

logger = logging.getLogger(__name__)

_NUM_READERS = 4

T = TypeVar("T")


class Monitor:
    """One monitor over one store. Use it from one event loop, between `open` and `close`."""

    def __init__(
        self,
        analyse: Analyse,
        store: Store,
        args: MonitorArgs,
        *,
        secret: bytes = b"",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``secret`` signs what is sent to the webhook; ``clock`` tells epoch seconds.

        Raises:
            ServeError: ``args`` name a webhook and there is no secret.
        """
        self.args = args
        self.store = store
        self.clock = clock
        self._reader = Reader(analyse, batch_texts=args.batch_texts, queue_wait_s=args.queue_wait_s)
        # what waits for the database waits here and not on the event loop
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="monitor-writer")
        self._reading = ThreadPoolExecutor(_NUM_READERS, thread_name_prefix="monitor-reader")
        self._webhook: Webhook | None = None
        self._courier: Courier | None = None
        self._delivering: asyncio.Task[None] | None = None
        if args.webhook_url:
            self._webhook = Webhook(
                args.webhook_url,
                secret=secret,
                timeout_s=args.webhook_timeout_s,
                allow_private=args.webhook_allow_private,
            )
            self._courier = Courier(store, self._webhook, args, clock=clock)

    async def open(self) -> None:
        """Prepares the database, and goes on with messages that were not delivered.

        Raises:
            ServeError: the database cannot be used.
        """
        await self._write(self.store.prepare)
        if self._courier is not None:
            self._delivering = asyncio.create_task(self._courier.run(), name="monitor-courier")
            self._delivering.add_done_callback(_log_failure)

    async def close(self) -> None:
        """Ends what runs; messages that are not delivered stay in the database."""
        if self._delivering is not None:
            self._delivering.cancel()
            await asyncio.wait([self._delivering])
        await asyncio.to_thread(self._writing.shutdown)
        await asyncio.to_thread(self._reading.shutdown)
        self.store.close()

    async def add(self, items: Sequence[tuple[int, Item]]) -> Receipt:
        """Reads and stores items, each with its place in the request.

        Raises:
            QueueFullError: the model has no room; nothing was stored.
            StoppedError: the service is stopping; nothing was stored.
            StoreUnavailableError: the database does not answer; nothing was stored.
        """
        if not items:
            return Receipt(accepted=0, duplicates=0, rejected=[])
        first: dict[str, tuple[int, Item]] = {}
        for line, item in items:
            first.setdefault(item.id, (line, item))
        known = await self._read(self.store.known_ids, list(first))
        fresh = [place for identity, place in first.items() if identity not in known]
        outcomes = await self._reader.read([item.text for _, item in fresh])
        readings: list[Reading] = []
        rejected: list[RejectedItem] = []
        for (line, item), outcome in zip(fresh, outcomes, strict=True):
            if isinstance(outcome, ServeError):
                rejected.append(RejectedItem(line=line, id=item.id, reason=str(outcome)))
            else:
                readings.append(Reading(item, outcome))
        accepted = await self._write(self.store.add, readings, now_ms=self._now_ms())
        if accepted and self._courier is not None:
            self._courier.wake()
        duplicates = len(items) - accepted - len(rejected)
        return Receipt(accepted=accepted, duplicates=duplicates, rejected=rejected)

    async def topics(self, *, since_ms: int | None, limit: int) -> TopicList:
        """See `Store.topics`."""
        return await self._read(self.store.topics, since_ms=since_ms, limit=limit)

    async def windows(
        self, topic: str, *, bucket_s: int, since_ms: int | None, until_ms: int | None
    ) -> WindowList:
        """See `Store.windows`."""
        return await self._read(
            self.store.windows, topic, bucket_s=bucket_s, since_ms=since_ms, until_ms=until_ms
        )

    async def items(self, wanted: ItemQuery) -> ItemPage:
        """See `Store.items`."""
        return await self._read(self.store.items, wanted)

    async def alerts(self, *, topic: str | None, since_ms: int | None, limit: int) -> list[Alert]:
        """See `Store.alerts`."""
        return await self._read(self.store.alerts, topic=topic, since_ms=since_ms, limit=limit)

    async def acknowledge(self, alert: str) -> Alert | None:
        """See `Store.acknowledge`."""
        return await self._write(self.store.acknowledge, alert, now_ms=self._now_ms())

    async def test_webhook(self) -> WebhookTest | None:
        """Sends a message at once and once; None where there is no webhook."""
        if self._webhook is None:
            return None
        now_ms = self._now_ms()
        body = message("test", {"text": "A test of the monitor's webhook."}, now_ms=now_ms)
        try:
            await self._webhook.send(
                f"test-{uuid.uuid4().hex}", body.encode(), timestamp=now_ms // 1000
            )
        except WebhookError as error:
            return WebhookTest(delivered=False, error=str(error))
        return WebhookTest(delivered=True, error=None)

    async def _read(self, call: Callable[..., T], *args: object, **kwargs: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reading, partial(call, *args, **kwargs))

    async def _write(self, call: Callable[..., T], *args: object, **kwargs: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writing, partial(call, *args, **kwargs))

    def _now_ms(self) -> int:
        return round(self.clock() * 1000)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("messages to the webhook are no longer delivered", exc_info=error)
