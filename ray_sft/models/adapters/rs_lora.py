"""rsLoRA: low-rank updates whose scale lets higher ranks learn as fast as lower ones.

Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA",
arXiv:2312.03732, definition 3.1 and theorem 3.2: the update is scaled by alpha / sqrt(rank).
"""

from typing import TYPE_CHECKING, Literal

from ray_sft.models.adapters.lora import LowRank

if TYPE_CHECKING:
    from peft import LoraConfig

__all__ = ["RsLora"]


class RsLora(LowRank):
    """Low-rank updates for ranks above some dozens."""

    kind: Literal["rs_lora"] = "rs_lora"

    def _specialise(self, config: "LoraConfig") -> None:
        config.use_rslora = True
