"""The requests that wait for an engine, and the one thread that answers them.

What is common to all engines: a bounded queue, an end that reaches every reader, and a thread that
sleeps while there is nothing to do. How a step is computed is the engine's own.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from ray_sft.core import ServeError
from ray_sft.inference.generation.job import Job

__all__ = ["EngineBusy", "JobThread"]

logger = logging.getLogger(__name__)


class EngineBusy(ServeError):  # noqa: N818 - a state, not a fault
    """The engine's queue is full; try again later."""


class JobThread:
    """A queue of at most ``max_queued`` jobs and the thread that works on them."""

    def __init__(
        self,
        *,
        max_queued: int,
        step: Callable[[], None],
        running: Callable[[], Sequence[Job]],
        drop: Callable[[], None],
        load: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing runs before `start`; all four are called in the thread.

        Args:
            max_queued: jobs that may wait.
            step: takes jobs in with `take`, and brings those that run one step on.
            running: the jobs that were taken and have not ended.
            drop: forgets them and frees what `load` has loaded; the last call.
            load: the first call; where it fails, the last, too.
        """
        assert max_queued >= 1
        self._max_queued = max_queued
        self._step, self._running, self._drop, self._load = step, running, drop, load
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._is_loaded = threading.Event()
        self._is_closed = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="generation", daemon=True)

    @property
    def num_queued(self) -> int:
        """Jobs that wait."""
        return len(self._queue)

    def start(self) -> None:
        """Returns once everything is loaded; raises what went wrong there."""
        self._thread.start()
        self._is_loaded.wait()
        if self._failure is not None:
            raise self._failure

    def put(self, job: Job) -> None:
        """Lets a job wait for its turn.

        Raises:
            EngineBusy: the queue is full.
            ServeError: the engine has failed or was closed.
        """
        with self._changed:
            if self._is_closed:
                raise ServeError("the generation engine is closed.") from self._failure
            if len(self._queue) >= self._max_queued:
                raise EngineBusy(
                    f"{len(self._queue)} requests wait already, which is the limit. "
                    "Try again later, or serve with more replicas."
                )
            self._queue.append(job)
            self._changed.notify()

    def take(self, num: int) -> list[Job]:
        """Up to ``num`` jobs off the queue, the oldest first; cancelled ones are forgotten."""
        with self._changed:
            self._queue = deque(job for job in self._queue if not job.stream.is_cancelled)
            return [self._queue.popleft() for _ in range(min(num, len(self._queue)))]

    def close(self) -> None:
        """Ends all replies by an error and stops the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _serve(self) -> None:
        try:
            self._load()
            self._is_loaded.set()
            while self._wait_for_work():
                self._step()
            self._end_all(ServeError("the generation engine was closed."))
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        if not self._is_loaded.is_set():
            self._is_closed = True
            self._is_loaded.set()
            return
        logger.error("The generation engine failed.", exc_info=error)
        failure = ServeError(f"the generation engine failed: {error}")
        failure.__cause__ = error
        self._end_all(failure)

    def _wait_for_work(self) -> bool:
        """False once the engine is to stop."""
        is_busy = bool(self._running())
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._queue or is_busy)
            return not self._is_closed

    def _end_all(self, error: ServeError) -> None:
        with self._changed:
            self._is_closed = True
            jobs = [*self._queue, *self._running()]
            self._queue.clear()
        try:
            self._drop()
        finally:  # an engine that has failed may fail here again; nobody is to wait for it
            for job in jobs:
                job.stream.close(error)
