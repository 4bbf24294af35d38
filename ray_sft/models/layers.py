"""Where a transformer keeps its layers, and what they keep."""

from typing import Any

import torch

from ray_sft.core import ConfigError

__all__ = ["KEYS", "QUERIES", "VALUES", "checkpoint_activations", "compile_layers", "layers_of"]

QUERIES = ("query", "q_proj", "q_lin", "q")
KEYS = ("key", "k_proj", "k_lin", "k")
VALUES = ("value", "v_proj", "v_lin", "v")
"""Names in transformers' families: BERT, Llama, BART, DistilBERT and T5, and theirs."""


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


def checkpoint_activations(module: torch.nn.Module) -> None:
    """Lets the layers keep their inputs alone, and run again where gradients are computed.

    Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.

    Raises:
        ConfigError: the architecture has no such layers.
    """
    model: Any = getattr(module, "backbone", module)
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ConfigError(
            f"{type(model).__name__} cannot run its layers again. Set "
            "train.activation_checkpointing: false."
        )
    # the reentrant kind meets parameters that ZeRO 3 has let go
    model.activation_checkpointing_enable({"use_reentrant": False})


def compile_layers(module: torch.nn.Module) -> None:
    """Lets torch.compile fuse the work of each layer, at its first run.

    Layers one by one, since they are alike: torch compiles one and runs it as all the others. What
    is outside of them, embeddings and heads, stays as it is.

    Raises:
        ConfigError: the architecture has no such layers.
    """
    for layer in layers_of(getattr(module, "backbone", module)):
        layer.compile()
