"""Generating text for many requests at once: continuous batching on the CPU.

One thread owns the model. Between two steps it lets finished and cancelled requests go, takes
waiting ones in, and reads a piece of one prompt, so a long prompt does not hold up the replies
that are under way, and a request that arrives late joins at the next step.
"""

import itertools
import logging
import threading
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from ray_sft.bundle import Bundle
from ray_sft.core import DataError, ServeError
from ray_sft.inference.generation_stream import (
    GenerationChunk,
    GenerationRequest,
    GenerationStream,
)
from ray_sft.inference.sampling import sample_token
from ray_sft.inference.slots import SlotDecoder
from ray_sft.inference.text_stream import TextStream
from ray_sft.models import load_processor
from ray_sft.tasks import Array

__all__ = ["EngineBusy", "GenerationEngine"]

logger = logging.getLogger(__name__)

_PREFILL_TOKENS = 256
"""Tokens of a prompt read between two steps; bounds both the wait and the logits' memory."""


class EngineBusy(ServeError):  # noqa: N818 - a state, not a fault
    """The engine's queue is full; try again later."""


@dataclass(slots=True, eq=False)
class _Job:
    """One request on its way through the engine."""

    request: GenerationRequest
    stream: GenerationStream
    text: TextStream
    rng: np.random.Generator
    number: int
    num_read: int = 0
    generated: list[int] = field(default_factory=list)

    @property
    def is_reading(self) -> bool:
        return self.num_read < len(self.request.prompt_ids)


class GenerationEngine:
    """Answers generation requests with a decoder bundle in ONNX format."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        num_slots: int = 8,
        num_threads: int = 1,
        max_queued: int = 64,
        max_length: int = 4096,
        spinning: bool = True,
    ) -> None:
        """Loads ``bundle`` and starts the thread.

        At most ``num_slots`` requests run at a time and ``max_queued`` wait. Prompt and reply
        together have at most ``max_length`` tokens, or the model's context if that is shorter.

        Raises:
            BundleError: the bundle holds no decoder graph.
        """
        assert num_slots >= 1
        assert max_queued >= 1
        self._decoder = SlotDecoder(
            bundle.model_dir,
            num_slots=num_slots,
            num_threads=num_threads,
            spinning=spinning,
            max_length=max_length,
        )
        self.processor = load_processor(bundle.processor_dir)
        self._eos = self._decoder.eos_token_ids | {self.processor.eos_token_id}
        self._max_queued = max_queued
        self._queue: deque[_Job] = deque()
        self._slots: list[_Job | None] = [None] * num_slots
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._is_closed = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="generation", daemon=True)
        self._thread.start()

    @property
    def max_length(self) -> int:
        """Tokens that a prompt and its reply may have together."""
        return self._decoder.max_length

    @property
    def num_active(self) -> int:
        """Requests that hold a slot."""
        return sum(job is not None for job in self._slots)

    @property
    def num_queued(self) -> int:
        """Requests that wait for a slot."""
        return len(self._queue)

    def submit(self, request: GenerationRequest) -> GenerationStream:
        """Puts a request into the queue; its reply arrives in the stream.

        Raises:
            DataError: the prompt is empty or too long, or the request is malformed.
            EngineBusy: the queue is full.
            ServeError: the engine has failed or was closed.
        """
        self._check(request)
        job = _Job(
            request,
            GenerationStream(),
            TextStream(self.processor, stop=request.stop),
            np.random.default_rng(request.seed),
            next(self._numbers),
        )
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
        return job.stream

    def close(self) -> None:
        """Ends all replies by an error and stops the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _check(self, request: GenerationRequest) -> None:
        num_tokens, limit = len(request.prompt_ids), self.max_length - 1
        if not 1 <= num_tokens <= limit:
            raise DataError(
                f"the prompt has {num_tokens} tokens; this model takes 1 to {limit}, since prompt "
                f"and reply share {self.max_length}. Shorten the conversation."
            )
        if not 0 <= min(request.prompt_ids) <= max(request.prompt_ids) < self._decoder.vocab_size:
            raise DataError(f"a prompt token is outside 0 to {self._decoder.vocab_size - 1}.")
        if request.max_tokens < 1:
            raise DataError(f"max_tokens is {request.max_tokens}; it must be at least 1.")
        if not request.temperature >= 0.0 or not 0.0 < request.top_p <= 1.0 or request.top_k < 0:
            raise DataError(
                f"temperature ({request.temperature}) and top_k ({request.top_k}) must not be "
                f"negative, top_p ({request.top_p}) must be above 0 and at most 1."
            )
        if "" in request.stop:
            raise DataError("a stop string is empty. Leave it out.")

    def _serve(self) -> None:
        try:
            while self._wait_for_work():
                self._release_cancelled()
                self._admit()
                self._read_prompt()
                self._step()
            self._end_all(ServeError("the generation engine was closed."))
        except BaseException as error:
            logger.exception("The generation engine failed.")
            self._failure = error
            failure = ServeError(f"the generation engine failed: {error}")
            failure.__cause__ = error
            self._end_all(failure)
            if not isinstance(error, Exception):
                raise

    def _wait_for_work(self) -> bool:
        """False once the engine is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._queue or any(self._slots))
            return not self._is_closed

    def _end_all(self, error: ServeError) -> None:
        with self._changed:
            self._is_closed = True
            jobs = [*self._queue, *(job for job in self._slots if job is not None)]
            self._queue.clear()
            self._slots = [None] * len(self._slots)
        for job in jobs:
            job.stream.close(error)

    def _release_cancelled(self) -> None:
        for slot, job in enumerate(self._slots):
            if job is not None and job.stream.is_cancelled:
                self._free(slot)

    def _admit(self) -> None:
        with self._changed:
            self._queue = deque(job for job in self._queue if not job.stream.is_cancelled)
            for slot, job in enumerate(self._slots):
                if job is None and self._queue:
                    self._slots[slot] = self._queue.popleft()

    def _read_prompt(self) -> None:
        """Reads the next piece of the prompt that has waited longest."""
        reading = [(slot, job) for slot, job in enumerate(self._slots) if job and job.is_reading]
        if not reading:
            return
        slot, job = min(reading, key=lambda item: item[1].number)
        piece = job.request.prompt_ids[job.num_read : job.num_read + _PREFILL_TOKENS]
        logits = self._decoder.prefill(slot, np.asarray(piece, dtype=np.int64))
        job.num_read += len(piece)
        if not job.is_reading:
            self._advance(slot, job, logits)

    def _step(self) -> None:
        """One token for every request whose prompt has been read."""
        live = [(slot, job) for slot, job in enumerate(self._slots) if job and not job.is_reading]
        if not live:
            return
        width = live[-1][0] + 1  # slots above the highest live one need not run along
        tokens, is_live = np.zeros(width, dtype=np.int64), np.zeros(width, dtype=np.bool_)
        for slot, job in live:
            tokens[slot], is_live[slot] = job.generated[-1], True
        logits = self._decoder.decode(tokens, is_live)
        for slot, job in live:
            self._advance(slot, job, logits[slot])

    def _advance(self, slot: int, job: _Job, logits: Array) -> None:
        """Draws the next token of a request and hands on what it makes final."""
        request = job.request
        try:
            token = sample_token(
                logits,
                job.rng,
                temperature=request.temperature,
                top_k=request.top_k,
                top_p=request.top_p,
            )
        except ServeError as error:  # fails alone
            job.stream.close(error)
            self._free(slot)
            return
        job.generated.append(token)
        is_eos = token in self._eos
        text = "" if is_eos else job.text.push(token)
        num_tokens = len(job.generated)
        is_full = num_tokens >= min(request.max_tokens, self.max_length - len(request.prompt_ids))
        if (is_eos or is_full) and not job.text.stopped:
            text += job.text.finish()
        if is_eos or job.text.stopped:
            self._finish(slot, job, GenerationChunk(text, num_tokens, "stop"))
        elif is_full:
            self._finish(slot, job, GenerationChunk(text, num_tokens, "length"))
        elif text:
            job.stream.put(GenerationChunk(text, num_tokens, None))

    def _finish(self, slot: int, job: _Job, chunk: GenerationChunk) -> None:
        self._free(slot)
        job.stream.put(chunk)
        job.stream.close()

    def _free(self, slot: int) -> None:
        self._slots[slot] = None
        self._decoder.release(slot)
