"""Continuing text for many requests at once."""

from ray_sft.inference.generation.engine import GenerationEngine
from ray_sft.inference.generation.job_thread import EngineBusy
from ray_sft.inference.generation.opening import open_engine
from ray_sft.inference.generation.paged_engine import PagedEngine
from ray_sft.inference.generation.request import (
    Constraint,
    GenerationChunk,
    GenerationRequest,
    TokenScore,
)
from ray_sft.inference.generation.slots import SlotDecoder
from ray_sft.inference.generation.stream import GenerationStream
from ray_sft.inference.generation.text_engine import TextEngine

__all__ = [
    "Constraint",
    "EngineBusy",
    "GenerationChunk",
    "GenerationEngine",
    "GenerationRequest",
    "GenerationStream",
    "PagedEngine",
    "SlotDecoder",
    "TextEngine",
    "TokenScore",
    "open_engine",
]
