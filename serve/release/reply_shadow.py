"""Watching the replies of a generator with a candidate.

A shadow generates when the client's reply is complete, one at a time, while the current engine
has nothing to do; as soon as it has, the shadow is given up and counted as dropped.
"""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, perf_counter, sleep

from ray_sft.core import RaySFTError
from ray_sft.inference import (
    EngineBusy,
    GenerationChunk,
    GenerationRequest,
    GenerationStream,
    TextEngine,
)
from serve.release.asked import ASKED, Arm
from serve.release.choose import is_chosen
from serve.release.compare import compare_texts
from serve.release.figures import Figures

__all__ = ["ReplyShadow", "ReplyWatch"]

logger = logging.getLogger(__name__)

_PATIENCE_S = 0.1
"""How long a shadow waits for the engine to have nothing to do."""


class ReplyShadow:
    """Asks the engine of a candidate what another engine has replied."""

    def __init__(
        self,
        current: TextEngine,
        candidate: TextEngine,
        figures: Figures,
        *,
        task: str,
        percent: float,
        salt: str,
    ) -> None:
        """``task`` is what the replies are counted under."""
        self._current = current
        self._candidate = candidate
        self._figures = figures
        self._task = task
        self._percent = percent
        self._salt = f"shadow {salt}"
        self._is_busy = threading.Lock()
        self._is_closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shadow")

    def offer(self, key: str, request: GenerationRequest, text: str, seconds: float) -> None:
        """Lets the candidate reply too, soon and in a thread of its own, or does not."""
        if self._is_closed or not is_chosen(key, self._salt, percent=self._percent):
            return
        if not self._is_busy.acquire(blocking=False):
            self._figures.dropped()
            return
        self._thread.submit(self._reply, request, text, seconds)

    def close(self) -> None:
        """Gives up what is under way."""
        self._is_closed = True
        self._thread.shutdown(wait=False)

    def _reply(self, request: GenerationRequest, text: str, seconds: float) -> None:
        try:
            self._compare(request, text, seconds)
        except EngineBusy:
            self._figures.dropped()
        except RaySFTError:
            logger.warning("a candidate failed on a shadowed reply", exc_info=True)
            self._figures.failed()
        finally:
            self._is_busy.release()

    def _compare(self, request: GenerationRequest, text: str, seconds: float) -> None:
        if not self._wait_for_time():
            self._figures.dropped()
            return
        start = perf_counter()
        stream = self._candidate.submit(request)
        pieces: list[str] = []
        for chunk in stream:
            pieces.append(chunk.text)
            if not chunk.finish_reason and not self._has_time():
                stream.cancel()
                self._figures.dropped()
                return
        self._figures.compared(
            {self._task: [compare_texts(text, "".join(pieces))]},
            current_s=seconds,
            candidate_s=perf_counter() - start,
        )

    def _wait_for_time(self) -> bool:
        """The engine tells the end of a reply a moment before it frees the slot."""
        ends_at = monotonic() + _PATIENCE_S
        while not self._has_time():
            if monotonic() > ends_at:
                return False
            sleep(_PATIENCE_S / 20)
        return True

    def _has_time(self) -> bool:
        return not self._is_closed and self._current.num_active + self._current.num_queued == 0


class ReplyWatch:
    """Follows the replies of one engine to requests from outside."""

    def __init__(self, arm: Arm, figures: Figures, shadow: ReplyShadow | None = None) -> None:
        """With ``shadow``, a candidate is asked too."""
        self._arm = arm
        self._figures = figures
        self._shadow = shadow

    def follow(self, request: GenerationRequest, stream: GenerationStream) -> None:
        """Times a reply that has begun."""
        asked = ASKED.get()
        if asked is None:
            return
        start = perf_counter()
        pieces: list[str] = []
        key = asked.key
        is_whole = False

        def listen(chunk: GenerationChunk | None) -> None:
            nonlocal is_whole
            if chunk is not None:
                pieces.append(chunk.text)
                is_whole = chunk.finish_reason is not None
                return
            if stream.is_cancelled and not is_whole:
                return  # the client left: neither an answer nor a failure
            seconds = perf_counter() - start
            self._figures.answered(self._arm, seconds, failed=not is_whole)
            if is_whole and self._shadow is not None:
                self._shadow.offer(key, request, "".join(pieces), seconds)

        stream.listen(listen)
