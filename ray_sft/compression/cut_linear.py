"""Linear layers without some of what they make or read, in place."""

import torch

__all__ = ["keep_inputs", "keep_outputs"]


def keep_outputs(linear: torch.nn.Linear, outputs: torch.Tensor) -> None:
    """Cuts all other outputs out of the weight and the bias."""
    linear.weight = torch.nn.Parameter(linear.weight.detach()[outputs].contiguous())
    if linear.bias is not None:
        linear.bias = torch.nn.Parameter(linear.bias.detach()[outputs].contiguous())
    linear.out_features = len(outputs)


def keep_inputs(linear: torch.nn.Linear, inputs: torch.Tensor) -> None:
    """Cuts all other inputs out of the weight."""
    linear.weight = torch.nn.Parameter(linear.weight.detach()[:, inputs].contiguous())
    linear.in_features = len(inputs)
