"""A generation engine whose replies can be followed from outside, while there is a candidate."""

from collections.abc import Callable
from typing import TypeAlias

from ray_sft.inference import GenerationRequest, GenerationStream, TextEngine
from ray_sft.inference.generation.constraints import ConstraintCompiler
from ray_sft.tasks import Processor

__all__ = ["Follow", "WatchedEngine"]

Follow: TypeAlias = Callable[[GenerationRequest, GenerationStream], None]


class WatchedEngine:
    """The engine of the service's generators: any `TextEngine`, and what follows its replies."""

    def __init__(self, engine: TextEngine) -> None:
        """Nobody follows yet."""
        self.unwatched = engine
        """Answers without anybody being told."""
        self.follow: Follow | None = None
        """Is told of every reply that is begun; None while there is nothing to compare."""

    @property
    def processor(self) -> Processor:
        """See `TextEngine`."""
        return self.unwatched.processor

    @property
    def constraints(self) -> ConstraintCompiler:
        """See `TextEngine`."""
        return self.unwatched.constraints

    @property
    def max_length(self) -> int:
        """See `TextEngine`."""
        return self.unwatched.max_length

    @property
    def num_active(self) -> int:
        """See `TextEngine`."""
        return self.unwatched.num_active

    @property
    def num_queued(self) -> int:
        """See `TextEngine`."""
        return self.unwatched.num_queued

    @property
    def num_cached_tokens(self) -> int:
        """See `TextEngine`."""
        return self.unwatched.num_cached_tokens

    def submit(self, request: GenerationRequest) -> GenerationStream:
        """See `TextEngine`."""
        stream = self.unwatched.submit(request)
        if self.follow is not None:
            self.follow(request, stream)
        return stream

    def close(self) -> None:
        """See `TextEngine`."""
        self.unwatched.close()
