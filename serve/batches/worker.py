"""The thread that runs batches, in whatever process; and what the routes know of it."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from typing import Protocol

from serve.args import ServiceArgs
from serve.batches.job import Job, MakeApi
from serve.batches.lines import Block
from serve.batches.parts import Tally
from serve.batches.runner import Runner
from serve.batches.scoring import Scorer

__all__ = ["BatchRunner", "LocalRunner", "Worker"]

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 600.0
_AFTER_FAILURE_S = 10.0
_STOP_TIMEOUT_S = 60.0


class BatchRunner(Protocol):
    """Who runs batches for the routes."""

    async def wake(self) -> None:
        """There is something to run; it lies on disk, so nothing is lost where nobody hears."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Sees to it that batches run, within the context."""


class Worker:
    """Runs batches in a thread of its own until it is stopped."""

    def __init__(self, runner: Runner) -> None:
        """Starts nothing."""
        self._runner = runner
        self._due = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Looks for batches, now or after the one that runs."""
        self._due.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ends after the block that is being answered; its batch can be taken up again."""
        self._stopped.set()
        self._due.set()
        if self._thread is not None:
            self._thread.join(timeout=_STOP_TIMEOUT_S)

    def _work(self) -> None:
        while not self._stopped.is_set():
            self._due.wait(timeout=_LOOK_EVERY_S)  # what has expired is deleted now and then
            self._due.clear()
            try:
                self._runner.run_due(self._stopped.is_set)
            except Exception:  # a full disk, perhaps, which somebody makes room on
                logger.exception("batches cannot be run; trying again in %g s", _AFTER_FAILURE_S)
                self._stopped.wait(timeout=_AFTER_FAILURE_S)
                self._due.set()


class LocalRunner:
    """Runs batches in this process, in a thread, without Ray: for one process and small files."""

    def __init__(self, args: ServiceArgs, make_api: MakeApi) -> None:
        """Loads no model before a batch runs."""
        self._worker = Worker(Runner(args, make_api, _answer_here))

    async def wake(self) -> None:
        """As `BatchRunner.wake`."""
        self._worker.wake()

    def running(self) -> AbstractAsyncContextManager[None]:
        """As `BatchRunner.running`."""
        return self._running()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        self._worker.wake()
        try:
            yield
        finally:
            await asyncio.to_thread(self._worker.stop)


def _answer_here(job: Job, blocks: Sequence[Block]) -> Iterator[Tally]:
    """A `serve.batches.job.Compute` of this process, block after block."""
    with closing(Scorer(job)) as scorer:
        for block in blocks:
            yield scorer.score(block)
