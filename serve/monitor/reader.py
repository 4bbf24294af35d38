"""Reading texts with the model: in batches, a few at a time, with patience that ends."""

import asyncio
from collections.abc import Sequence

from ray_sft.core import ServeError
from serve.monitor.opinion import Analyse, Opinion
from serve.outcomes import QueueFullError, StoppedError

__all__ = ["Reader"]

_BATCHES_AT_ONCE = 2
"""One waits while the other runs; more would only crowd the queue that others use too."""


class Reader:
    """Asks the model. Use it from one event loop."""

    def __init__(self, analyse: Analyse, *, batch_texts: int, queue_wait_s: float) -> None:
        """Hands over ``batch_texts`` at a time and waits ``queue_wait_s`` for room."""
        self._analyse = analyse
        self._batch_texts = batch_texts
        self._queue_wait_s = queue_wait_s

    async def read(self, texts: Sequence[str]) -> list[Opinion | ServeError]:
        """The opinion on each text, or what is wrong with it.

        Raises:
            QueueFullError: the model's queue had no room for long enough.
            StoppedError: the service is stopping.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._queue_wait_s
        turn = asyncio.Semaphore(_BATCHES_AT_ONCE)
        starts = range(0, len(texts), self._batch_texts)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(
                        self._read_batch(texts[start : start + self._batch_texts], turn, ends_at)
                    )
                    for start in starts
                ]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [outcome for task in tasks for outcome in task.result()]

    async def _read_batch(
        self, texts: Sequence[str], turn: asyncio.Semaphore, ends_at: float
    ) -> list[Opinion | ServeError]:
        async with turn:
            outcomes = await self._ask(texts, ends_at)
        for outcome in outcomes:
            if isinstance(outcome, StoppedError):
                raise outcome
        return outcomes

    async def _ask(self, texts: Sequence[str], ends_at: float) -> list[Opinion | ServeError]:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await self._analyse(texts)
            except QueueFullError as error:
                left_s = ends_at - loop.time()
                if left_s <= 0:
                    raise
                await asyncio.sleep(min(left_s, error.retry_after_s))
