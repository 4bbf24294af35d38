"""What comes back for a text: an answer with its timing, or the reason why there is none."""

from dataclasses import dataclass

from pydantic import BaseModel

from ray_sft.core import ServeError

__all__ = [
    "Answer",
    "BatchReport",
    "ItemFailedError",
    "QueueFullError",
    "RefusedError",
    "StoppedError",
    "Timing",
]


class QueueFullError(ServeError):
    """Too many texts wait; come again in ``retry_after_s`` seconds."""

    def __init__(
        self, num_queued: int, *, max_queued: int, retry_after_s: int, wait_s: float = 0.0
    ) -> None:
        """States the numbers; ``wait_s`` is how long what waits is likely to take."""
        super().__init__(
            f"{num_queued} texts wait for the model and {max_queued} may. "
            f"Come again in {retry_after_s} s."
        )
        self.retry_after_s = retry_after_s
        self.wait_s = wait_s


class RefusedError(ServeError):
    """A text that the model cannot take, and why."""


class ItemFailedError(ServeError):
    """The model failed on this very text; the log has the reason."""


class StoppedError(ServeError):
    """The service was stopped before the text was answered."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one text went, in seconds."""

    queue_s: float
    tokenize_s: float
    """Of the texts that were tokenised together."""
    inference_s: float
    """Of the whole batch."""
    batch_size: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to one text."""

    response: BaseModel
    num_tokens: int
    timing: Timing


@dataclass(frozen=True, slots=True)
class BatchReport:
    """One batch that ran, for the metrics."""

    num_texts: int
    num_tokens: int
    num_padded_tokens: int
    inference_s: float
    queue_s: tuple[float, ...]
