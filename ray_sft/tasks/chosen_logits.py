"""Whether a model computes the logits of those tokens alone that are asked for."""

import inspect
from typing import Any

import torch

__all__ = ["can_choose_logits"]


def can_choose_logits(model: torch.nn.Module) -> bool:
    """Whether ``model``, or the one that an engine holds, takes ``logits_to_keep``."""
    bare: Any = getattr(model, "module", model)
    return "logits_to_keep" in inspect.signature(getattr(bare, "forward", bare)).parameters
