"""Timing a decoder that was exported for CUDA: by the engine that will serve it."""

import time
from collections.abc import Sequence
from weakref import finalize

from ray_sft.bundle import Bundle
from ray_sft.inference import GenerationRequest, PagedEngine

__all__ = ["PagedWorkload"]


class PagedWorkload:
    """Greedy generation of up to a number of tokens: a token is a unit; see `Workload`.

    Replies end by themselves here, where others are made to go on, so that tokens are counted.
    """

    unit = "tokens/s"

    def __init__(
        self, bundle: Bundle, prompts: Sequence[Sequence[int]], *, num_tokens: int, num_threads: int
    ) -> None:
        """Loads an engine, which goes with the last reference to this."""
        self._requests = [GenerationRequest(tuple(ids), num_tokens) for ids in prompts]
        self._engine = PagedEngine(bundle, num_slots=len(prompts), num_threads=num_threads)
        finalize(self, self._engine.close)

    def single(self) -> list[float]:
        """See `Workload.single`."""
        return [1.0 / self._rate([request]) for request in self._requests[:2]]

    def batch(self) -> float:
        """See `Workload.batch`."""
        return self._rate(self._requests)

    def _rate(self, requests: Sequence[GenerationRequest]) -> float:
        """Tokens in a second."""
        start = time.perf_counter()
        streams = [self._engine.submit(request) for request in requests]
        num_tokens = sum(list(stream)[-1].num_tokens for stream in streams)
        return num_tokens / (time.perf_counter() - start)
