"""Adapters: a few new weights are trained, the model's own stay as they are.

The layers of the backbone get an adapter each; a new head is trained whole, since it has learned
nothing yet. At the end everything is merged, so a bundle never needs peft.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from torch import nn

from ray_sft.core import Config, ConfigError
from ray_sft.tasks import Task

if TYPE_CHECKING:
    from peft import LoraModel

__all__ = ["Lora"]

_TRAINED_HEADS = ("sequence_classification", "token_classification", "matching")


class Lora(Config):
    """Low-rank adapters of every linear layer, Hu et al. 2021, arXiv:2106.09685, eq. 3."""

    kind: Literal["lora"] = "lora"
    rank: int = Field(default=8, ge=1, le=1024)
    """Rank of the update of a weight matrix."""
    alpha: float = Field(default=16.0, gt=0)
    """The update is scaled by ``alpha / rank``."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of an adapter's inputs that is dropped while training."""

    def inject(self, module: nn.Module, tasks: Mapping[str, Task]) -> "LoraModel":
        """Puts adapters into ``module`` in place; freezes everything but them and new heads.

        ``merge_and_unload()`` of the result gives the plain model back with the updates added.

        Raises:
            ConfigError: the model has no linear layers to adapt.
        """
        from peft import LoraConfig, LoraModel  # takes seconds, and few runs need it

        prefix = _backbone_prefix(module)
        targets = [
            name
            for name, layer in module.named_modules()
            if name.startswith(prefix) and isinstance(layer, nn.Linear)
        ]
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
        tuner = LoraModel(module, {"default": config}, "default")
        trains_heads = all(task.head in _TRAINED_HEADS for task in tasks.values())
        for name, parameter in module.named_parameters():
            is_head = trains_heads and not name.startswith(prefix)
            parameter.requires_grad_("lora_" in name or is_head)
        return tuner


def _backbone_prefix(module: Any) -> str:
    """Where the backbone's parameters begin: ``backbone.`` of ours, such as ``bert.`` of theirs."""
    return f"{getattr(module, 'base_model_prefix', 'backbone')}."
