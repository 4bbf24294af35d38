"""Dropout and noise that every position shares: random, yet blind to how a batch is cut."""

import torch


class SharedDropout(torch.nn.Dropout):
    """Draws one mask over the hidden units for a pass, in evaluation mode too."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        kept = (torch.rand(hidden.shape[-1]) >= self.p) / (1 - self.p)
        return hidden * kept.to(hidden.dtype)


def share_dropout(module: torch.nn.Module, *, rate: float = 0.2) -> torch.nn.Module:
    """``module`` with a shared dropout behind its first layer, and no other dropout."""
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    dropout = SharedDropout(rate)
    module.add_module("shared_dropout", dropout)
    layer = next(part for part in module.modules() if type(part).__name__.endswith("Layer"))

    def drop(_module, _inputs, output):
        return (dropout(output[0]), *output[1:]) if isinstance(output, tuple) else dropout(output)

    layer.register_forward_hook(drop)
    return module


def shared_noise(like: torch.Tensor) -> torch.Tensor:
    """Draws from U(-1, 1) for the hidden units, the same ones at every position."""
    return torch.empty(like.shape[-1]).uniform_(-1, 1).to(like.dtype).expand_as(like)
