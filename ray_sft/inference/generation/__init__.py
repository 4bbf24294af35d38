"""Continuing text for many requests at once."""

from ray_sft.inference.generation.engine import EngineBusy, GenerationEngine
from ray_sft.inference.generation.request import (
    Constraint,
    GenerationChunk,
    GenerationRequest,
    TokenScore,
)
from ray_sft.inference.generation.slots import SlotDecoder
from ray_sft.inference.generation.stream import GenerationStream

__all__ = [
    "Constraint",
    "EngineBusy",
    "GenerationChunk",
    "GenerationEngine",
    "GenerationRequest",
    "GenerationStream",
    "SlotDecoder",
    "TokenScore",
]
