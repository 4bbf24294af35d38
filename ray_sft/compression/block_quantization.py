"""Block-wise weight quantization of a decoder graph, activations in 8 bit, row by row."""

import logging
import shutil
from pathlib import Path
from typing import Literal, TypeAlias

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from ray_sft.compression.graph import save_graph
from ray_sft.core import CompressionError

__all__ = ["BlockSize", "quantize_blocks"]

BlockSize: TypeAlias = Literal[16, 32, 64, 128, 256]

_INT8_ACTIVATIONS = 4
"""Without this accuracy level the kernel unpacks to fp32: slower than no quantization at all."""


def quantize_blocks(
    source_dir: Path, model_dir: Path, *, bits: Literal[4, 8], block_size: BlockSize
) -> None:
    """Writes the decoder of ``source_dir`` with ``bits``-bit weights to ``model_dir``.

    Raises:
        CompressionError: the graph holds no product with constant weights.
    """
    # the quantizer announces every node at INFO on the root logger's children
    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)
    quantizer = MatMulNBitsQuantizer(
        onnx.load(source_dir / "model.onnx"),
        bits=bits,
        block_size=block_size,
        is_symmetric=True,
        accuracy_level=_INT8_ACTIVATIONS,
    )
    quantizer.process()
    model = quantizer.model.model
    if not any(node.op_type == "MatMulNBits" for node in model.graph.node):
        raise CompressionError(f"'{source_dir}' holds no matrix product that could be quantized.")
    save_graph(model, model_dir)
    shutil.copy(source_dir / "genai_config.json", model_dir)
