"""Watching the texts of a model with a candidate: times, failures, and the candidate's opinion.

The candidate is asked when the client's answer is there already, and only while neither queue has
anybody waiting; what finds no time is dropped and counted. So a shadow costs idle time alone.
"""

import asyncio
import logging
from collections.abc import Sequence
from time import perf_counter

from pydantic import BaseModel

from ray_sft.core import ServeError
from ray_sft.tasks import Row
from serve.outcomes import Answer, ItemFailedError, QueueFullError
from serve.release.asked import ASKED, Arm
from serve.release.choose import is_chosen
from serve.release.compare import Difference, compare
from serve.release.figures import Figures
from serve.served import JointResponse, TextQueue

__all__ = ["TextShadow", "WatchedQueue"]

logger = logging.getLogger(__name__)

_MOST_PENDING = 2
"""Requests that a candidate is asked at the same time as a shadow."""


class TextShadow:
    """Asks the queue of a candidate what another queue has answered."""

    def __init__(
        self,
        current: TextQueue,
        candidate: TextQueue,
        figures: Figures,
        *,
        task: str,
        percent: float,
        salt: str,
    ) -> None:
        """``task`` is what the answers are counted under where the queue has a single head."""
        self._current = current
        self._candidate = candidate
        self._figures = figures
        self._task = task
        self._percent = percent
        self._salt = f"shadow {salt}"
        self._pending: set[asyncio.Task[None]] = set()

    def offer(
        self,
        key: str,
        rows: Sequence[Row],
        answers: Sequence[Answer | ServeError],
        seconds: float,
        *,
        cut: bool,
    ) -> None:
        """Asks the candidate for ``rows`` too, soon and somewhere else, or does not."""
        if not is_chosen(key, self._salt, percent=self._percent):
            return
        if (
            len(self._pending) >= _MOST_PENDING
            or self._candidate.num_queued
            or self._current.num_queued
        ):
            self._figures.dropped()
            return
        task = asyncio.create_task(self._ask(rows, answers, seconds, cut=cut))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    def close(self) -> None:
        """Gives up what is under way."""
        for task in self._pending:
            task.cancel()

    async def _ask(
        self,
        rows: Sequence[Row],
        answers: Sequence[Answer | ServeError],
        seconds: float,
        *,
        cut: bool,
    ) -> None:
        start = perf_counter()
        try:
            found = await self._candidate.submit(rows, cut=cut)
        except QueueFullError:
            self._figures.dropped()
            return
        except ServeError:
            self._figures.failed()
            return
        taken = perf_counter() - start
        pairs = [
            (one.response, other)
            for one, other in zip(answers, found, strict=True)
            if isinstance(one, Answer)
        ]
        if any(isinstance(other, ServeError) for _, other in pairs):
            self._figures.failed()
            return
        differences = self._differences(
            [one for one, _ in pairs],
            [other.response for _, other in pairs if isinstance(other, Answer)],
        )
        self._figures.compared(differences, current_s=seconds, candidate_s=taken)

    def _differences(
        self, current: Sequence[BaseModel], candidate: Sequence[BaseModel]
    ) -> dict[str, list[Difference]]:
        """By task, of which a queue of several heads answers all."""
        if not current or not isinstance(current[0], JointResponse):
            return {self._task: compare(current, candidate)}
        return {
            task: compare(_heads(current, task), _heads(candidate, task))
            for task in current[0].by_task
        }


class WatchedQueue:
    """A queue of texts that tells what it does for requests from outside."""

    def __init__(
        self, queue: TextQueue, arm: Arm, figures: Figures, shadow: TextShadow | None = None
    ) -> None:
        """Passes everything on to ``queue``; with ``shadow``, a candidate is asked too."""
        self._queue = queue
        self._arm = arm
        self._figures = figures
        self._shadow = shadow

    @property
    def num_queued(self) -> int:
        """As the queue says."""
        return self._queue.num_queued

    @property
    def is_full(self) -> bool:
        """As the queue says."""
        return self._queue.is_full

    @property
    def is_idle(self) -> bool:
        """As the queue says."""
        return self._queue.is_idle

    def refusal(self) -> QueueFullError | None:
        """As the queue says."""
        return self._queue.refusal()

    async def submit(self, rows: Sequence[Row], *, cut: bool = False) -> list[Answer | ServeError]:
        """See `Batcher.submit`."""
        asked = ASKED.get()
        if asked is None:
            return await self._queue.submit(rows, cut=cut)
        start = perf_counter()
        try:
            answers = await self._queue.submit(rows, cut=cut)
        except ServeError:
            self._figures.answered(self._arm, perf_counter() - start, failed=True)
            raise
        seconds = perf_counter() - start
        failed = any(isinstance(answer, ItemFailedError) for answer in answers)
        self._figures.answered(self._arm, seconds, failed=failed)
        if self._shadow is not None:
            self._shadow.offer(asked.key, rows, answers, seconds, cut=cut)
        return answers

    def close(self) -> None:
        """Ends the queue."""
        self._queue.close()


def _heads(responses: Sequence[BaseModel], task: str) -> list[BaseModel]:
    return [one.by_task[task] for one in responses if isinstance(one, JointResponse)]
