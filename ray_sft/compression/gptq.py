"""Rounding weights so that later ones make up for the error of earlier ones.

Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", arXiv:2210.17323, algorithm 1: the weights of an output are rounded one after another
in the order of their inputs, and each error is spread over those that are left, by the inverse of
the Hessian H = 2 X^T X of the squared error of the output over calibration rows X (eq. 2 and 3).
Its Cholesky factor holds all that is needed of it (section 3.3), one percent of the mean of the
diagonal is added to that (section 3.3, "step 3"), and updates beyond a group of inputs are made
group by group. Inputs stay in their order (no "act-order").

Deviation: H is of the model before any of it is rounded, for all products at once; the authors
give each layer what the rounded layers before it say.

Shapes: K inputs, N outputs, as ONNX multiplies.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from ray_sft.compression.graph import products
from ray_sft.compression.second_moments import second_moments
from ray_sft.tasks import Array, Batch

__all__ = ["gptq", "pack", "refill"]

_LARGEST = 7.0
_LOWEST = -8.0
"""Codes of 4 bits without their offset of 8."""
_DAMPING = 0.01


def gptq(weights_KN: Array, hessian_KK: Array, *, block_size: int) -> tuple[Array, Array]:
    """Codes, (K, N) of 0 to 15, and scales, (blocks, N): a weight is (code - 8) * scale.

    A block of inputs shares a scale; the code -8 is that of its largest weight by magnitude.
    """
    weights = torch.from_numpy(weights_KN.astype(np.float64))
    hessian = torch.from_numpy(hessian_KK.astype(np.float64)).clone()
    num_inputs, num_outputs = weights.shape
    never_used = hessian.diagonal() == 0
    hessian[never_used, never_used] = 1.0
    hessian.diagonal().add_(_DAMPING * hessian.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    factor_KK = torch.linalg.cholesky(inverse, upper=True)
    codes = torch.zeros(num_inputs, num_outputs, dtype=torch.float64)
    scales = []
    for start in range(0, num_inputs, block_size):
        end = min(start + block_size, num_inputs)
        scale_N = _scale(weights[start:end])
        scales.append(scale_N)
        errors_BN = torch.zeros(end - start, num_outputs, dtype=torch.float64)
        for place in range(start, end):
            code_N = (weights[place] / scale_N).round().clamp(_LOWEST, _LARGEST)
            codes[place] = code_N
            error_N = (weights[place] - code_N * scale_N) / factor_KK[place, place]
            weights[place:end] -= factor_KK[place, place:end, None] * error_N
            errors_BN[place - start] = error_N
        weights[end:] -= factor_KK[start:end, end:].T @ errors_BN
    found = (codes - _LOWEST).to(torch.uint8).numpy()
    return found, torch.stack(scales).numpy().astype(np.float32)


def _scale(block_BN: torch.Tensor) -> torch.Tensor:
    """What one step of a code stands for in each column, (N,)."""
    places_1N = block_BN.abs().argmax(dim=0, keepdim=True)
    scale_N = block_BN.gather(0, places_1N)[0] / _LOWEST
    return torch.where(scale_N == 0, torch.ones_like(scale_N), scale_N)


def pack(codes_KN: Array, *, block_size: int) -> Array:
    """Codes as `MatMulNBits` reads them: (N, blocks, block_size / 2), the earlier one low."""
    num_inputs, num_outputs = codes_KN.shape
    missing = -num_inputs % block_size
    padded_NK = np.pad(codes_KN, [(0, missing), (0, 0)], constant_values=8).T
    blocks = padded_NK.reshape(num_outputs, -1, block_size)
    packed: Array = blocks[..., 0::2] | (blocks[..., 1::2] << 4)
    return np.ascontiguousarray(packed)


def refill(
    model: onnx.ModelProto, source_dir: Path, batches: Sequence[Batch], *, block_size: int
) -> None:
    """Gives the products of 4 bits in ``model`` the weights that `gptq` finds, in place.

    Args:
        model: the graph in ``source_dir`` with products rounded to the nearest.
        source_dir: holds it in fp32.
        batches: calibration rows.
        block_size: of ``model``.
    """
    source = onnx.load(source_dir / "model.onnx").graph
    weights = {node.output[0]: tensor for node, tensor in products(source)}
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type == "MatMulNBits" and _bits(node) == 4:
            readers.setdefault(node.input[0], []).append(node)
    sizes = {name: int(weights[nodes[0].output[0]].dims[0]) for name, nodes in readers.items()}
    for name, hessian in second_moments(source_dir, sizes, batches):
        for node in readers[name]:
            weight = numpy_helper.to_array(weights[node.output[0]])
            codes, scales = gptq(weight, hessian, block_size=block_size)
            packed = pack(codes, block_size=block_size)
            for place, array in ((node.input[1], packed), (node.input[2], scales.T)):
                former = stored[place]
                shaped = np.ascontiguousarray(array).reshape(former.dims)
                former.CopyFrom(numpy_helper.from_array(shaped, former.name))


def _bits(node: onnx.NodeProto) -> int:
    return next(int(one.i) for one in node.attribute if one.name == "bits")
