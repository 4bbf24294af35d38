"""Batching for encoders: never waits while idle, never makes one client pay for another.

After the queue of text-embeddings-inference (core/src/queue.rs), with these laws:

- A place in the queue is taken before any work is done for a text; a full queue answers at once.
- No timer. While the model runs, texts pile up; what waits when it is done, in order of arrival
  and up to 32, is taken next.
- Of what is taken, texts of like length run together, shortest first, so that little is padded. A
  batch is bounded by its padded tokens, longest text times number of texts.
- A text whose client has left is dropped before it costs anything.
- A batch that fails is cut in halves until the text at fault stands alone; only that one fails.

One thread of its own tokenises, runs the model and decodes, so the event loop only moves bytes;
tokenising the texts of a batch together costs a fraction of tokenising them one by one.
Pure asyncio and threads: nothing here knows HTTP or Ray.
"""

import asyncio
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, TypeAlias, TypeVar

from pydantic import BaseModel

from ray_sft.core import ServeError
from ray_sft.inference import plan_batches
from ray_sft.tasks import Encoded, Example, Rejected, Row
from serve.outcomes import (
    Answer,
    BatchReport,
    ItemFailedError,
    QueueFullError,
    RefusedError,
    StoppedError,
    Timing,
)

__all__ = ["Batchable", "Batcher"]

logger = logging.getLogger(__name__)

_TAKEN_AT_ONCE = 32


class Batchable(Protocol):
    """What is batched; `ray_sft.inference.Predictor` is one."""

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """One example or rejection per row."""

    def run(self, examples: Sequence[Example]) -> list[BaseModel]:
        """One response per example, from one batch."""


@dataclass(slots=True)
class _Entry:
    row: Row
    future: "asyncio.Future[Answer]"
    arrived: float
    is_cut: bool = False
    """Whether a text that is too long is read up to where the model ends, not refused."""
    tokenize_s: float = 0.0


_Outcome: TypeAlias = "tuple[_Entry, Answer | ServeError]"
Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher:
    """A queue of texts in front of one model. Use it from one event loop."""

    def __init__(
        self,
        model: Batchable,
        *,
        max_batch_tokens: int,
        max_queued: int,
        max_wait_s: float = math.inf,
        on_batch: Callable[[BatchReport], None] = lambda _: None,
    ) -> None:
        """Starts the model's thread; ``on_batch`` is called from it.

        At most ``max_queued`` texts wait, and no text is taken that would wait longer than
        ``max_wait_s`` for those that run and those that wait already.
        """
        self._model = model
        self._max_batch_tokens = max_batch_tokens
        self._max_queued = max_queued
        self._max_wait_s = max_wait_s
        self._on_batch = on_batch
        self._queue: deque[_Entry] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._num_taken = 0
        """Texts that have left the queue and are not answered yet."""
        self._seconds_a_text = 0.01
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    @property
    def num_queued(self) -> int:
        """How many texts wait."""
        return len(self._queue)

    @property
    def is_full(self) -> bool:
        """Whether the next text would be refused."""
        return self.num_queued >= self._max_queued

    @property
    def is_idle(self) -> bool:
        """Whether no text waits and none is being answered."""
        with self._changed:
            return not self._queue and not self._num_taken

    async def submit(self, rows: Sequence[Row], *, cut: bool = False) -> list[Answer | ServeError]:
        """The answer, or what was wrong, for each row; cancelling it drops what still waits.

        A row that is longer than the model takes is refused, or with ``cut`` shortened.

        Raises:
            QueueFullError: not all of ``rows`` find a place; none was taken.
            StoppedError: the batcher is closed.
        """
        loop = asyncio.get_running_loop()
        now = perf_counter()
        entries = [_Entry(row, loop.create_future(), now, cut) for row in rows]
        with self._changed:
            self._admit(len(entries))
            self._queue.extend(entries)
            self._changed.notify()
        futures = [entry.future for entry in entries]
        if len(futures) == 1:  # gather costs more than the rest of this function
            try:
                return [await futures[0]]
            except ServeError as error:
                return [error]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        return [_unexpected_is_raised(answer) for answer in answers]

    def close(self) -> None:
        """Ends the thread after the batch that runs; what waits fails with StoppedError."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout=30)

    def refusal(self, num_texts: int = 1) -> QueueFullError | None:
        """What a request of so many texts would be told now; None where it would be taken."""
        num_queued = len(self._queue)
        num_ahead = num_queued + self._num_taken
        wait_s = num_ahead * self._seconds_a_text
        # one may always wait, so that the model does not run dry
        if num_queued and wait_s > self._max_wait_s:
            num, most = num_ahead, max(1, int(self._max_wait_s / self._seconds_a_text))
        elif num_queued + num_texts > self._max_queued:
            num, most = num_queued, self._max_queued
        else:
            return None
        return QueueFullError(
            num, max_queued=most, retry_after_s=max(1, round(wait_s)), wait_s=wait_s
        )

    def _admit(self, num_texts: int) -> None:
        if self._stopped:
            raise StoppedError("the service is stopping.")
        if (error := self.refusal(num_texts)) is not None:
            raise error

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._stopped)
                if self._stopped:
                    _stop(self._queue)
                    self._queue.clear()
                    return
                num_texts = min(_TAKEN_AT_ONCE, len(self._queue))
                taken = [self._queue.popleft() for _ in range(num_texts)]
                self._num_taken = num_texts
            self._answer(taken)
            self._num_taken = 0

    def _answer(self, taken: Sequence[_Entry]) -> None:
        """Runs the model on what was taken, and delivers as it goes."""
        usable = self._encode(taken)
        lengths = [example.length for _, example in usable]
        for places in plan_batches(lengths, max_batch_tokens=self._max_batch_tokens):
            batch = [usable[place] for place in places]
            present = [item for item in batch if not item[0].future.cancelled()]
            if self._stopped:
                _stop([entry for entry, _ in present])
            elif present:
                _deliver(self._run(present))
            self._num_taken -= len(batch)

    def _encode(self, taken: Sequence[_Entry]) -> list[tuple[_Entry, Example]]:
        """The texts whose clients are still there, tokenised; what cannot be taken is told so."""
        entries = [entry for entry in taken if not entry.future.cancelled()]
        start = perf_counter()
        encoded = _bisect(self._model.encode, [entry.row for entry in entries])
        tokenize_s = perf_counter() - start
        refused: list[_Outcome] = []
        usable: list[tuple[_Entry, Example]] = []
        for entry, item in zip(entries, encoded, strict=True):
            entry.tokenize_s = tokenize_s
            if problem := _problem(item, may_be_cut=entry.is_cut):
                refused.append((entry, problem))
            else:
                assert isinstance(item, Example)
                usable.append((entry, item))
        _deliver(refused)
        return usable

    def _run(self, batch: Sequence[tuple[_Entry, Example]]) -> list[_Outcome]:
        start = perf_counter()
        examples = [example for _, example in batch]
        responses = _bisect(self._model.run, examples)
        inference_s = perf_counter() - start
        self._seconds_a_text = 0.9 * self._seconds_a_text + 0.1 * inference_s / len(batch)
        queue_s = tuple(max(0.0, start - entry.arrived - entry.tokenize_s) for entry, _ in batch)
        lengths = [example.length for example in examples]
        padded = max(lengths) * len(lengths)
        self._on_batch(BatchReport(len(lengths), sum(lengths), padded, inference_s, queue_s))
        outcomes: list[_Outcome] = []
        for (entry, example), response, waited in zip(batch, responses, queue_s, strict=True):
            if isinstance(response, ServeError):
                outcomes.append((entry, response))
                continue
            timing = Timing(waited, entry.tokenize_s, inference_s, len(batch))
            outcomes.append((entry, Answer(response, example.length, timing)))
        return outcomes


def _bisect(
    call: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
) -> list[Result | ItemFailedError]:
    """What ``call`` returns for each item; an item on which it fails alone gets the failure."""
    if not items:
        return []
    try:
        return list(call(items))
    except Exception as error:
        if len(items) == 1:
            logger.error("the model failed on a text", exc_info=error)
            return [ItemFailedError("the model failed on this text.")]
    middle = len(items) // 2
    return [*_bisect(call, items[:middle]), *_bisect(call, items[middle:])]


def _problem(item: Encoded | ItemFailedError, *, may_be_cut: bool) -> ServeError | None:
    if isinstance(item, ItemFailedError):
        return item
    if isinstance(item, Rejected):
        return RefusedError(f"{item.reason}.")
    if item.truncated and not may_be_cut:
        limit = item.length
        return RefusedError(
            f"the text has {limit + item.truncated} tokens; the model takes {limit}. Shorten it."
        )
    return None


def _stop(entries: Iterable[_Entry]) -> None:
    stopped = StoppedError("the service was stopped.")
    _deliver([(entry, stopped) for entry in entries])


def _deliver(outcomes: Sequence[_Outcome]) -> None:
    """Resolves futures on their loop, from the model's thread, with one wake-up."""
    if not outcomes:
        return
    loop = outcomes[0][0].future.get_loop()
    try:
        loop.call_soon_threadsafe(_resolve, outcomes)
    except RuntimeError:  # the loop was closed: nobody waits for an answer any more
        logger.debug("%d answers were given up: the event loop is closed", len(outcomes))


def _resolve(outcomes: Sequence[_Outcome]) -> None:
    for entry, outcome in outcomes:
        if entry.future.done():  # cancelled: the client left
            continue
        if isinstance(outcome, ServeError):
            entry.future.set_exception(outcome)
        else:
            entry.future.set_result(outcome)


def _unexpected_is_raised(answer: Answer | BaseException) -> Answer | ServeError:
    if isinstance(answer, Answer | ServeError):
        return answer
    raise answer
