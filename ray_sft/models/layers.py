"""Where a transformer keeps its layers."""

import torch

from ray_sft.core import ConfigError

__all__ = ["layers_of"]


def layers_of(module: torch.nn.Module) -> torch.nn.ModuleList:
    """The list of a transformer's layers, found by its length.

    Raises:
        ConfigError: no list has as many members as the configuration names layers.
    """
    num_layers = getattr(getattr(module, "config", None), "num_hidden_layers", None)
    found = [
        part
        for part in module.modules()
        if isinstance(part, torch.nn.ModuleList) and len(part) == num_layers
    ]
    if not found:
        raise ConfigError(
            f"{type(module).__name__} has no list of {num_layers} layers, as its configuration "
            "says. Use an encoder or decoder whose layers are one list."
        )
    return max(found, key=lambda part: sum(1 for _ in part.modules()))
