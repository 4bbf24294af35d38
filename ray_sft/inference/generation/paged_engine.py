"""Generating text for many requests at once on CUDA: onnxruntime-genai's Engine.

Keys and values lie in pages that requests take as they grow, so that long and short ones share
the device's memory, and a request that arrives late joins at the next step. The Engine belongs to
the thread that made it. On graphs without paged attention it runs, too: in fixed batches, whose
places are free only when all of a batch have ended.

Keys and values of prompts that begin alike are not shared here: the Engine cannot keep one
caller's apart from another's, who could tell by the time of a first token what was asked before.
"""

from time import perf_counter, sleep
from typing import Any

import numpy as np

from ray_sft.bundle import Bundle
from ray_sft.core import ServeError
from ray_sft.inference.cuda import check_device
from ray_sft.inference.generation.constraints import ConstraintCompiler
from ray_sft.inference.generation.genai_engine import GenaiEngine, is_paged
from ray_sft.inference.generation.job import Job
from ray_sft.inference.generation.job_thread import JobThread
from ray_sft.inference.generation.request import GenerationRequest
from ray_sft.inference.generation.stream import GenerationStream
from ray_sft.inference.generation.turn_options import check_possible, set_options, settings_of
from ray_sft.inference.runners import read_decoder_settings
from ray_sft.models import load_processor

__all__ = ["PagedEngine"]

_MOST_SLOTS = 256
"""Of the Engine."""
_BLOCKED_S = 0.005
"""Rest of the thread while all requests wait for pages."""


class PagedEngine:
    """Answers generation requests with a decoder bundle that was exported for CUDA.

    It does what `GenerationEngine` does, but for log-probabilities, presence and frequency
    penalties and constraints: requests for these are refused, see `turn_options`.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        num_slots: int = 8,
        num_threads: int = 1,
        max_queued: int = 64,
        max_length: int = 4096,
    ) -> None:
        """Loads ``bundle`` and starts the thread.

        At most ``num_slots`` requests run at a time and ``max_queued`` wait. Prompt and reply
        together have at most ``max_length`` tokens, or what the model or the device's memory has
        room for if that is less. ``num_threads`` are those of operators on the processor.

        Raises:
            BundleError: the bundle holds no decoder graph, or one for CUDA, which is not here.
            ServeError: there are more slots than onnxruntime-genai has.
        """
        if not 1 <= num_slots <= _MOST_SLOTS:
            raise ServeError(
                f"num_slots is {num_slots}; onnxruntime-genai's Engine takes 1 to {_MOST_SLOTS}."
            )
        check_device(bundle.model_dir)
        self._bundle = bundle
        self._num_slots, self._num_threads = num_slots, num_threads
        settings = read_decoder_settings(bundle.model_dir)
        self._vocab_size = int(settings["vocab_size"])
        self._max_length = min(max_length, int(settings["context_length"]))
        self._takes_seeds = is_paged(settings)
        self.processor = load_processor(bundle.processor_dir)
        eos = settings["eos_token_id"]
        self._eos = frozenset(eos if isinstance(eos, list) else [eos])
        self._eos |= {self.processor.eos_token_id}
        self.constraints = ConstraintCompiler(
            self.processor, vocab_size=self._vocab_size, eos_token_ids=self._eos
        )
        self._turns: dict[Any, Job] = {}
        self._jobs = JobThread(
            max_queued=max_queued,
            step=self._go_on,
            running=lambda: list(self._turns.values()),
            drop=self._drop,
            load=self._load,
        )
        self._jobs.start()

    @property
    def max_length(self) -> int:
        """Tokens that a prompt and its reply may have together."""
        return self._max_length

    @property
    def num_active(self) -> int:
        """Requests that the Engine has."""
        return len(self._turns)

    @property
    def num_queued(self) -> int:
        """Requests that wait to be given to it."""
        return self._jobs.num_queued

    @property
    def num_cached_tokens(self) -> int:
        """None: prompts that begin alike are read anew."""
        return 0

    def submit(self, request: GenerationRequest) -> GenerationStream:
        """See `TextEngine.submit`."""
        request.check(max_length=self.max_length, vocab_size=self._vocab_size)
        check_possible(request, takes_seeds=self._takes_seeds)
        job = Job(
            request,
            self.processor,
            number=0,
            max_length=self.max_length,
            eos=self._eos,
            matcher=None,
        )
        self._jobs.put(job)
        return job.stream

    def close(self) -> None:
        """Ends all replies by an error and stops the thread."""
        self._jobs.close()

    def _load(self) -> None:
        self._engine = GenaiEngine(
            self._bundle,
            num_slots=self._num_slots,
            num_threads=self._num_threads,
            eos_token_ids=self._eos,
        )
        self._max_length = self._engine.room(self._max_length)

    def _drop(self) -> None:
        turns, self._turns = self._turns, {}
        try:
            for turn in turns:
                turn.close()
        finally:
            self._engine.close()

    def _go_on(self) -> None:
        for turn in [turn for turn, job in self._turns.items() if job.stream.is_cancelled]:
            self._end(turn)
        for job in self._jobs.take(self._num_slots - len(self._turns)):
            self._begin(job)
        if not self._turns:
            return
        flags = 0
        for event in self._engine.step():
            flags |= event.flags.value
            self._take(event)
        if flags == self._engine.genai.EngineEventFlags.CAPACITY_BLOCKED.value:
            sleep(_BLOCKED_S)

    def _begin(self, job: Job) -> None:
        """Gives a job to the Engine; one that it does not take fails alone."""
        job.stream.started = perf_counter()
        request = job.request
        turn = self._engine.engine.create_request()
        settings = settings_of(
            request,
            max_tokens=min(request.max_tokens, self.max_length - len(request.prompt_ids)),
            vocab_size=self._vocab_size,
            takes_seeds=self._takes_seeds,
        )
        try:
            options = self._engine.genai.TurnOptions(turn)
            set_options(options, settings)
            turn.begin_turn(np.asarray(request.prompt_ids, dtype=np.int32), options)
        except (RuntimeError, TypeError, ValueError) as error:
            turn.close()
            job.stream.close(ServeError(f"onnxruntime-genai refuses the request: {error}"))
            return
        self._turns[turn] = job

    def _take(self, event: Any) -> None:
        flags, kinds = event.flags.value, self._engine.genai.EngineEventFlags
        error = event.error_code.name if flags & kinds.FAILED.value else ""
        if error.startswith("ENGINE"):
            raise ServeError(f"onnxruntime-genai's Engine reports {error}.")
        job = self._turns.get(event.request)
        if job is None:  # its end was told before, or nobody wants it
            return
        goes_on = job.take(event.token) if flags & kinds.TOKEN.value else True
        if goes_on and error:
            job.stream.close(ServeError(f"onnxruntime-genai gives up the request: {error}."))
            goes_on = False
        elif goes_on and flags & kinds.TURN_FINISHED.value:
            goes_on = self._take_end(job, event.finish_reason.name)
        if not goes_on:
            self._end(event.request)

    def _take_end(self, job: Job, reason: str) -> bool:
        """False; the limits are the job's own, so that only an end of sequence comes unforeseen."""
        if reason == "EOS":
            return job.take(min(self._eos))
        job.stream.close(ServeError(f"onnxruntime-genai ended the reply early: {reason}."))
        return False

    def _end(self, turn: Any) -> None:
        del self._turns[turn]
        turn.close()
