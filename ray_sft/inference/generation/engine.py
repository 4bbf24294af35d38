"""Generating text for many requests at once: continuous batching on the CPU.

One thread owns the model. Between two steps it lets finished and cancelled requests go, takes
waiting ones in, and reads a piece of one prompt, so a long prompt does not hold up the replies
that are under way, and a request that arrives late joins at the next step.
"""

import itertools
from time import perf_counter

import numpy as np

from ray_sft.bundle import Bundle
from ray_sft.core import ServeError
from ray_sft.inference.generation.constraints import ConstraintCompiler
from ray_sft.inference.generation.job import Job
from ray_sft.inference.generation.job_thread import JobThread
from ray_sft.inference.generation.prefixes import PrefixCache
from ray_sft.inference.generation.request import GenerationRequest
from ray_sft.inference.generation.slots import SlotDecoder
from ray_sft.inference.generation.stream import GenerationStream
from ray_sft.models import load_processor
from ray_sft.tasks import Array

__all__ = ["GenerationEngine"]

_PREFILL_TOKENS = 256
"""Tokens of a prompt read between two steps; bounds both the wait and the logits' memory."""


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
        max_cached_tokens: int = 4096,
        spinning: bool = True,
    ) -> None:
        """Loads ``bundle`` and starts the thread.

        At most ``num_slots`` requests run at a time and ``max_queued`` wait. Prompt and reply
        together have at most ``max_length`` tokens, or the model's context if that is shorter.
        Keys and values of ``max_cached_tokens`` tokens are kept for prompts that begin alike.

        Raises:
            BundleError: the bundle holds no decoder graph.
        """
        assert num_slots >= 1
        self._decoder = SlotDecoder(
            bundle.model_dir,
            num_slots=num_slots,
            num_threads=num_threads,
            spinning=spinning,
            max_length=max_length,
        )
        self.processor = load_processor(bundle.processor_dir)
        self._eos = self._decoder.eos_token_ids | {self.processor.eos_token_id}
        self.constraints = ConstraintCompiler(
            self.processor, vocab_size=self._decoder.vocab_size, eos_token_ids=self._eos
        )
        self._prefixes = PrefixCache(max_cached_tokens)
        self._slots: list[Job | None] = [None] * num_slots
        self._numbers = itertools.count()
        self._jobs = JobThread(
            max_queued=max_queued, step=self._go_on, running=self._running, drop=self._drop
        )
        self._jobs.start()

    @property
    def max_length(self) -> int:
        """Tokens that a prompt and its reply may have together."""
        return self._decoder.max_length

    @property
    def num_active(self) -> int:
        """Requests that hold a slot."""
        return len(self._running())

    @property
    def num_queued(self) -> int:
        """Requests that wait for a slot."""
        return self._jobs.num_queued

    @property
    def num_cached_tokens(self) -> int:
        """Tokens whose keys and values are kept."""
        return self._prefixes.num_tokens

    def submit(self, request: GenerationRequest) -> GenerationStream:
        """Puts a request into the queue; its reply arrives in the stream.

        A constraint is compiled here, which may take a tenth of a second: not for an event loop.

        Raises:
            DataError: the prompt is empty or too long, or the request is malformed.
            EngineBusy: the queue is full.
            ServeError: the engine has failed or was closed.
        """
        request.check(max_length=self.max_length, vocab_size=self._decoder.vocab_size)
        constraint = request.constraint
        job = Job(
            request,
            self.processor,
            number=next(self._numbers),
            max_length=self.max_length,
            eos=self._eos,
            matcher=None if constraint is None else self.constraints.matcher(constraint),
        )
        self._jobs.put(job)
        return job.stream

    def close(self) -> None:
        """Ends all replies by an error and stops the thread."""
        self._jobs.close()

    def _go_on(self) -> None:
        self._release_cancelled()
        self._admit()
        self._read_prompt()
        self._step()

    def _running(self) -> list[Job]:
        return [job for job in self._slots if job is not None]

    def _drop(self) -> None:
        self._slots = [None] * len(self._slots)

    def _release_cancelled(self) -> None:
        for slot, job in enumerate(self._slots):
            if job is not None and job.stream.is_cancelled:
                self._free(slot)

    def _admit(self) -> None:
        free = [slot for slot, job in enumerate(self._slots) if job is None]
        for slot, job in zip(free, self._jobs.take(len(free)), strict=False):
            self._slots[slot] = job
            job.stream.started = perf_counter()
            self._reuse_prefix(slot, job)

    def _reuse_prefix(self, slot: int, job: Job) -> None:
        """Copies in what is known of the prompt, so that only the rest is read."""
        request = job.request
        num, state = self._prefixes.find(request.prompt_ids, scope=request.scope)
        if num:
            self._decoder.copy_in(slot, state, num)
            job.num_read = job.stream.num_cached = num

    def _keep_prefix(self, slot: int, job: Job) -> None:
        """Keeps what the slot has read and written, where later prompts may begin with it."""
        request = job.request
        tokens = [*request.prompt_ids, *job.generated[:-1]]  # the last token was not read
        if self._prefixes.wants(tokens, scope=request.scope):
            state = self._decoder.copy_out(slot, len(tokens))
            self._prefixes.keep(tokens, state, scope=request.scope)

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
            self._keep_prefix(slot, job)
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

    def _advance(self, slot: int, job: Job, logits: Array) -> None:
        """Goes on by a token; a request that has ended, or failed by itself, frees its slot."""
        try:
            if job.advance(logits):
                return
            self._keep_prefix(slot, job)
        except ServeError as error:
            job.stream.close(error)
        self._free(slot)

    def _free(self, slot: int) -> None:
        self._slots[slot] = None
        self._decoder.release(slot)
