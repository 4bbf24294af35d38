"""Adapters: train little, merge it at the end; one file per technique, under `base`."""

from typing import Annotated, TypeAlias

from pydantic import Field

from ray_sft.models.adapters.base import Adapter
from ray_sft.models.adapters.dora import Dora
from ray_sft.models.adapters.four_bit import BITS_PER_WEIGHT
from ray_sft.models.adapters.ia3 import Ia3
from ray_sft.models.adapters.lora import Lora
from ray_sft.models.adapters.prompt_tuning import PromptTuning
from ray_sft.models.adapters.rs_lora import RsLora

__all__ = [
    "BITS_PER_WEIGHT",
    "Adapter",
    "AnyAdapter",
    "Dora",
    "Ia3",
    "Lora",
    "PromptTuning",
    "RsLora",
]

AnyAdapter: TypeAlias = Annotated[
    Lora | RsLora | Dora | Ia3 | PromptTuning, Field(discriminator="kind")
]
"""Every adapter that a recipe may name, by its ``kind``."""
