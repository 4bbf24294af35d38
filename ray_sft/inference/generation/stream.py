"""What passes between a reader of generated text and the engine's thread."""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from time import perf_counter

from ray_sft.inference.generation.request import GenerationChunk

__all__ = ["GenerationStream"]


class GenerationStream:
    """The chunks of one reply; for one reader, in a thread or in any event loop.

    Iterating raises what went wrong in the engine. A reader that is cancelled while it waits
    cancels the reply.
    """

    def __init__(self) -> None:
        """A reply of which nothing is there yet."""
        self.num_cached = 0
        """Tokens of the prompt that were not read again; set by the engine."""
        self.submitted = perf_counter()
        """Time when the request was made."""
        self.started: float | None = None
        """Time when the request got its slot; set by the engine."""
        self.first_token: float | None = None
        """Time of the first token; set by the engine."""
        self.last_token: float | None = None
        """Time of the latest token; set by the engine."""
        self._changed = threading.Condition()
        self._chunks: deque[GenerationChunk] = deque()
        self._error: BaseException | None = None
        self._is_closed = False
        self._is_cancelled = False
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._listener: Callable[[GenerationChunk | None], None] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the rest."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Ends the reply; the engine frees its slot before its next step."""
        self._is_cancelled = True
        self.close()

    def listen(self, listener: Callable[[GenerationChunk | None], None]) -> None:
        """Tells ``listener`` every chunk, and None at the end; to be called before anybody reads.

        It is told in the engine's thread, which it must not hold up.
        """
        with self._changed:
            for chunk in self._chunks:
                listener(chunk)
            if self._is_closed:
                listener(None)
            self._listener = listener

    def put(self, chunk: GenerationChunk) -> None:
        """Hands a chunk to the reader; for the engine."""
        with self._changed:
            self._chunks.append(chunk)
            if self._listener is not None:
                self._listener(chunk)
            self._wake()

    def close(self, error: BaseException | None = None) -> None:
        """Ends the stream after the chunks that it has, by ``error`` if given; for the engine."""
        with self._changed:
            if not self._is_closed:
                self._is_closed, self._error = True, error
                if self._listener is not None:
                    self._listener(None)
            self._wake()

    def __iter__(self) -> Iterator[GenerationChunk]:
        """The chunks, waiting for each."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._chunks or self._is_closed)
                chunk = self._take()
            if chunk is None:
                return
            yield chunk

    async def __aiter__(self) -> AsyncIterator[GenerationChunk]:
        """The chunks, awaiting each."""
        while True:
            event = asyncio.Event()
            with self._changed:
                is_ready = bool(self._chunks) or self._is_closed
                if is_ready:
                    chunk = self._take()
                else:
                    self._waiter = (asyncio.get_running_loop(), event)
            if not is_ready:
                await self._wait(event)
            elif chunk is None:
                return
            else:
                yield chunk

    async def _wait(self, event: asyncio.Event) -> None:
        try:
            await event.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise

    def _take(self) -> GenerationChunk | None:
        """The next chunk, or None at the end; raises the engine's error."""
        if self._chunks:
            return self._chunks.popleft()
        if self._error is not None:
            raise self._error
        return None

    def _wake(self) -> None:
        self._changed.notify_all()
        if self._waiter is not None:
            (loop, event), self._waiter = self._waiter, None
            with suppress(RuntimeError):  # the reader's loop was closed: nobody is there to wake
                loop.call_soon_threadsafe(event.set)
