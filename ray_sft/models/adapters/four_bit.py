"""Frozen weights in four bits, so that a model can be adapted which would not fit otherwise.

Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv:2305.14314, section 3:
blocks of 64 weights are divided by the largest of them and rounded to the 16 quantiles of a normal
distribution (NF4); the divisors are rounded to 8 bits in blocks of 256 (double quantization). That
is 4.127 bits a weight. A product unpacks the weights of its layer, forward and backward again.

bitsandbytes packs and unpacks, on CPUs as on GPUs. The layer around that is ours: it keeps what is
packed out of the state of the model, so that a checkpoint holds what is trained alone, and lies
under every ZeRO stage.
"""

import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

from ray_sft.core import ConfigError

__all__ = [
    "BITS_PER_WEIGHT",
    "PackedLinear",
    "check_installed",
    "import_bitsandbytes",
    "pack",
    "round_weights",
]

BITS_PER_WEIGHT = 4 + 8 / 64 + 32 / (64 * 256)
_BLOCK, _BLOCK_OF_DIVISORS = 64, 256
_BUFFERS = ("packed", "divisors", "quantiles", "offset", "outer_divisors", "outer_quantiles")


def check_installed() -> None:
    """Raises ConfigError where bitsandbytes is missing."""
    try:
        import_bitsandbytes()
    except ImportError as error:
        raise ConfigError(
            f"adapter.four_bit needs bitsandbytes, which cannot be imported ({error}): "
            "pip install 'ray-sft[four-bit]'."
        ) from None


class PackedLinear(nn.Linear):
    """A linear layer whose weight is packed and is never trained."""

    def __init__(self, layer: nn.Linear) -> None:
        """Takes the place of ``layer``, whose bias it keeps."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        packed, state = _functional().quantize_4bit(
            layer.weight.detach(), blocksize=_BLOCK, compress_statistics=True, quant_type="nf4"
        )
        outer = state.state2
        parts = (packed, state.absmax, state.code, state.offset, outer.absmax, outer.code)
        for name, part in zip(_BUFFERS, parts, strict=True):
            self.register_buffer(name, part, persistent=False)

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """(out, in): what the packed weight stands for, in float32."""
        return self.unpacked(torch.float32)

    def unpacked(self, dtype: torch.dtype) -> torch.Tensor:
        """(out, in): what the packed weight stands for."""
        functional = _functional()
        packed, divisors, quantiles, offset, outer_divisors, outer_quantiles = (
            getattr(self, name) for name in _BUFFERS
        )
        state = functional.QuantState(
            absmax=divisors,
            shape=torch.Size((self.out_features, self.in_features)),
            code=quantiles,
            blocksize=_BLOCK,
            quant_type="nf4",
            dtype=dtype,
            offset=offset,
            state2=functional.QuantState(
                absmax=outer_divisors,
                code=outer_quantiles,
                blocksize=_BLOCK_OF_DIVISORS,
                dtype=torch.float32,
            ),
        )
        return cast(torch.Tensor, functional.dequantize_4bit(packed, state))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out), in the arithmetic of autocast where that is on."""
        kind = input.device.type
        dtype = input.dtype
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        product = cast(torch.Tensor, _Product.apply(input, self, dtype))  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias.to(dtype)


class _Product(torch.autograd.Function):
    """The product with an unpacked weight, which is not kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, input: torch.Tensor, layer: PackedLinear, dtype: torch.dtype) -> Any:
        ctx.layer, ctx.dtype, ctx.input_dtype = layer, dtype, input.dtype
        return nn.functional.linear(input.to(dtype), layer.unpacked(dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        weight = ctx.layer.unpacked(ctx.dtype)
        return (gradient.to(ctx.dtype) @ weight).to(ctx.input_dtype), None, None


def pack(module: nn.Module, names: Sequence[str]) -> None:
    """Puts a `PackedLinear` in the place of each named layer of ``module``."""
    for name in names:
        parent, _, child = name.rpartition(".")
        layer = cast(nn.Linear, module.get_submodule(name))
        setattr(module.get_submodule(parent), child, PackedLinear(layer))


def round_weights(module: nn.Module, names: Sequence[str]) -> None:
    """Gives each named layer of ``module`` the weights that it has where it is packed."""
    for name in names:
        layer = cast(nn.Linear, module.get_submodule(name))
        with torch.no_grad():
            layer.weight.copy_(PackedLinear(layer).weight)


def _functional() -> Any:
    """The functions of bitsandbytes."""
    import_bitsandbytes()
    return sys.modules["bitsandbytes"].functional


def import_bitsandbytes() -> None:
    """Imports it without the code that it fetches from a hub on some CPUs, if it can.

    peft imports it too, where it is installed; this is to be called before.
    """
    if "bitsandbytes" in sys.modules:
        return
    logger = logging.getLogger("bitsandbytes")
    level, kernels = logger.level, sys.modules.get("kernels")
    sys.modules["kernels"] = None  # type: ignore[assignment] # so that importing it fails
    logger.setLevel(logging.ERROR)
    try:
        importlib.import_module("bitsandbytes")
    finally:
        logger.setLevel(level)
        del sys.modules["kernels"]
        if kernels is not None:
            sys.modules["kernels"] = kernels
