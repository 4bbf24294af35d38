"""Running batches, one after another, in the order in which they were made.

Only one process of all that share the folder runs batches at a time; a lock that the system takes
from a dead process sees to it.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from filelock import FileLock, Timeout

from serve.args import ServiceArgs
from serve.batches.figures import FigureBook
from serve.batches.job import Compute, MakeApi
from serve.batches.run import BatchRun, Means
from serve.batches.store import Store

__all__ = ["Runner"]

logger = logging.getLogger(__name__)

_SWEEP_EVERY_S = 3600.0


class Runner:
    """Brings every batch of a folder to its end."""

    def __init__(
        self,
        args: ServiceArgs,
        make_api: MakeApi,
        compute: Compute,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``args`` have batches; ``clock`` tells the seconds since 1970."""
        assert args.batches is not None
        self._args = args
        self._make_api = make_api
        self._compute = compute
        self._clock = clock
        self._keep_s = args.batches.keep_s
        self._store = Store(Path(args.batches.folder))
        self._sweep_at = -1.0

    def run_due(self, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Runs what is to be run, unless another process does so already.

        Once ``is_stopped``, it ends after the next block and leaves the batch to be taken up.
        """
        self._store.make_folder()
        try:
            with FileLock(self._store.folder / "running.lock", timeout=0):
                self._run_all(is_stopped)
        except Timeout:
            logger.debug("another process runs the batches of '%s'", self._store.folder)

    def _run_all(self, is_stopped: Callable[[], bool]) -> None:
        if monotonic() >= self._sweep_at:
            self._store.sweep(self._clock(), keep_s=self._keep_s)
            self._sweep_at = monotonic() + _SWEEP_EVERY_S
        book = FigureBook(self._store.folder)
        means = Means(
            self._args, self._make_api, self._compute, self._store, book, self._clock, is_stopped
        )
        while not is_stopped():
            batches = self._store.everyones_batches()
            book.write(batches)
            due = next((one for one in batches if not one.is_finished), None)
            if due is None:
                return
            BatchRun(due, means).run()
