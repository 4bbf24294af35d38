"""The contract of an adapter: a few new weights are trained, the model's own stay as they are.

The layers of the backbone get an adapter each; a new head is trained whole, since it has learned
nothing yet. At the end everything is merged, so a bundle never needs peft. Every member keeps
these laws:

- Untrained it changes nothing.
- What it trains beside heads are its own new weights alone.
- The merged model answers as the adapted one, and has the parameters that it had before.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from ray_sft.core import Config
from ray_sft.tasks import Task

if TYPE_CHECKING:
    from peft.tuners.tuners_utils import BaseTuner

__all__ = ["Adapter", "linear_layers"]

_TRAINED_HEADS = ("sequence_classification", "token_classification", "matching")


class Adapter(Config, ABC):
    """What is trained instead of the whole model. Subclasses are frozen values."""

    marker: ClassVar[str]
    """Part of the names of the weights that it adds."""

    kind: str

    def inject(self, module: nn.Module, tasks: Mapping[str, Task]) -> "BaseTuner":
        """Puts adapters into ``module`` in place; freezes everything but them and new heads.

        ``merge_and_unload()`` of the result gives the plain model back with the updates in it.

        Raises:
            ConfigError: the model has nothing to adapt.
        """
        prefix = _backbone_prefix(module)
        tuner = self._tune(module, prefix)
        trains_heads = all(task.head in _TRAINED_HEADS for task in tasks.values())
        for name, parameter in module.named_parameters():
            is_head = trains_heads and not name.startswith(prefix)
            parameter.requires_grad_(self.marker in name or is_head)
        return tuner

    @abstractmethod
    def _tune(self, module: nn.Module, prefix: str) -> "BaseTuner":
        """Puts adapters into the part of ``module`` whose names begin with ``prefix``."""


def linear_layers(module: nn.Module, prefix: str) -> list[str]:
    """The names of all linear layers that begin with ``prefix``."""
    return [
        name
        for name, layer in module.named_modules()
        if name.startswith(prefix) and isinstance(layer, nn.Linear)
    ]


def _backbone_prefix(module: Any) -> str:
    """Where the backbone's parameters begin: ``backbone.`` of ours, such as ``bert.`` of theirs."""
    return f"{getattr(module, 'base_model_prefix', 'backbone')}."
