"""What all engines that generate text have in common, for those who ask them."""

from typing import Protocol

from ray_sft.inference.generation.constraints import ConstraintCompiler
from ray_sft.inference.generation.request import GenerationRequest
from ray_sft.inference.generation.stream import GenerationStream
from ray_sft.tasks import Processor

__all__ = ["TextEngine"]


class TextEngine(Protocol):
    """Continues texts, many at once. Use it from any thread."""

    @property
    def processor(self) -> Processor:
        """The tokenizer."""

    @property
    def constraints(self) -> ConstraintCompiler:
        """Of the model's tokens."""

    @property
    def max_length(self) -> int:
        """Tokens that a prompt and its reply may have together."""

    @property
    def num_active(self) -> int:
        """Requests that are being answered."""

    @property
    def num_queued(self) -> int:
        """Requests that wait."""

    @property
    def num_cached_tokens(self) -> int:
        """Tokens whose keys and values are kept for prompts that begin alike."""

    def submit(self, request: GenerationRequest) -> GenerationStream:
        """Puts a request into the queue; its reply arrives in the stream.

        A constraint is compiled here, which may take a tenth of a second: not for an event loop.

        Raises:
            DataError: the prompt is empty or too long, or the request is malformed or asks for
                what this engine cannot do.
            EngineBusy: the queue is full.
            ServeError: the engine has failed or was closed.
        """

    def close(self) -> None:
        """Ends all replies by an error and stops the engine."""
