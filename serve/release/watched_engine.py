"""A generation engine whose replies can be followed from outside, while there is a candidate."""

from collections.abc import Callable
from typing import TypeAlias

from ray_sft.inference import GenerationEngine, GenerationRequest, GenerationStream

__all__ = ["Follow", "WatchedEngine"]

Follow: TypeAlias = Callable[[GenerationRequest, GenerationStream], None]


class WatchedEngine(GenerationEngine):
    """The engine of the service's generators."""

    follow: Follow | None = None
    """Is told of every reply that is begun; None while there is nothing to compare."""

    def submit(self, request: GenerationRequest) -> GenerationStream:
        """See `GenerationEngine.submit`."""
        stream = super().submit(request)
        if self.follow is not None:
            self.follow(request, stream)
        return stream
