"""What the monitor asks of a model: the topic of a text and how it feels about it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ray_sft.core import ServeError

__all__ = ["Analyse", "Opinion"]


@dataclass(frozen=True, slots=True)
class Opinion:
    """The model's reading of one text."""

    topic: str
    topic_score: float
    """Probability of the topic."""
    sentiment: dict[str, float]
    """Probability by sentiment; at least one."""

    @property
    def label(self) -> str:
        """The most probable sentiment."""
        return max(self.sentiment, key=lambda name: self.sentiment[name])


Analyse: TypeAlias = Callable[[Sequence[str]], Awaitable[list[Opinion | ServeError]]]
"""The opinion on each text, or why there is none.

Raises `serve.outcomes.QueueFullError`, having taken none of the texts, where there is no room.
"""
