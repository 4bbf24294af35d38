"""DoRA: a weight's direction gets a low-rank update, its magnitude is trained by itself.

Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation", arXiv:2402.09353, eq. 5:
W' = m (W + B A) / ||W + B A||, the norm taken of each column (of each output unit in PyTorch's
layout). As in its section 4.3 the norm is a constant for the gradient.
"""

from typing import TYPE_CHECKING, Literal

from ray_sft.models.adapters.lora import LowRank

if TYPE_CHECKING:
    from peft import LoraConfig

__all__ = ["Dora"]


class Dora(LowRank):
    """Low-rank updates of the weights' directions, and their magnitudes; slower than LoRA."""

    kind: Literal["dora"] = "dora"

    def _specialise(self, config: "LoraConfig") -> None:
        config.use_dora = True
