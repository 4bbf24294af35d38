"""Low-rank adapters of every linear layer: a weight W becomes W + s B A.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685, eq. 3, with
s = alpha / rank.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field
from torch import nn

from ray_sft.core import ConfigError
from ray_sft.models.adapters.base import Adapter, linear_layers

if TYPE_CHECKING:
    from peft import LoraConfig, LoraModel

__all__ = ["Lora", "LowRank"]


class LowRank(Adapter):
    """What adapters of a low rank have in common."""

    marker: ClassVar[str] = "lora_"

    rank: int = Field(default=8, ge=1, le=1024)
    """Rank of the update of a weight matrix."""
    alpha: float = Field(default=16.0, gt=0)
    """The update is scaled by ``alpha / rank``; by ``alpha / sqrt(rank)`` in rsLoRA."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of an adapter's inputs that is dropped while training."""

    def _tune(self, module: nn.Module, prefix: str) -> "LoraModel":
        """See `Adapter`."""
        from peft import LoraConfig, LoraModel  # takes seconds, and few runs need it

        targets = linear_layers(module, prefix)
        if not targets:
            raise ConfigError(
                f"adapter: {type(module).__name__} has no linear layers below '{prefix}'. "
                "Leave adapter out and train the whole model."
            )
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=targets,
            bias="none",
        )
        self._specialise(config)
        return LoraModel(module, {"default": config}, "default")

    @abstractmethod
    def _specialise(self, config: "LoraConfig") -> None:
        """Sets in ``config`` what a member does differently from plain LoRA."""


class Lora(LowRank):
    """Low-rank updates of the weights."""

    kind: Literal["lora"] = "lora"

    def _specialise(self, config: "LoraConfig") -> None:
        """Nothing."""
