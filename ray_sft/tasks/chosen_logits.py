"""Whether a model computes the logits of those tokens alone that are asked for."""

import inspect

import torch

__all__ = ["can_choose_logits"]


def can_choose_logits(model: torch.nn.Module) -> bool:
    """Whether ``model``, or the one that an engine holds, takes ``logits_to_keep``."""
    bare: torch.nn.Module = getattr(model, "module", model)
    return "logits_to_keep" in inspect.signature(bare.forward).parameters
