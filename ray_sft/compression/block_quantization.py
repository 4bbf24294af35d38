"""Block-wise weight quantization of a decoder graph, activations in 8 bit, row by row.

Weights of 4 bits are rounded in one of three ways:

- ``rtn``: to the nearest of 16 values about zero, by ONNX Runtime's tools.
- ``k_quant``: scale and offset of a block are searched for the least weighted squared error, as in
  llama.cpp's k-quants, by the same tools; an offset a block more to keep.
- ``gptq``: later weights make up for earlier ones, by `ray_sft.compression.gptq`. The tools' own
  rounds its result anew, by other scales, and loses more than ``rtn`` (on rows that it was
  calibrated on, 1.8 times the squared error of logits).
"""

import logging
import shutil
from collections.abc import Collection, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Literal, TypeAlias

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import (
    KQuantWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

from ray_sft.compression.gptq import refill
from ray_sft.compression.graph import save_graph
from ray_sft.core import CompressionError
from ray_sft.tasks import Batch

__all__ = ["Algorithm", "BlockSize", "quantize_blocks", "quantize_products"]

Algorithm: TypeAlias = Literal["rtn", "k_quant", "gptq"]
BlockSize: TypeAlias = Literal[16, 32, 64, 128, 256]

_INT8_ACTIVATIONS = 4
"""Without this accuracy level the kernel unpacks to fp32: slower than no quantization at all."""


def quantize_blocks(
    source_dir: Path,
    model_dir: Path,
    *,
    bits: Literal[4, 8],
    block_size: BlockSize,
    algorithm: Algorithm = "rtn",
    batches: Sequence[Batch] = (),
    others: Collection[str] = (),
    bits_of_others: Literal[8, 32] = 32,
) -> None:
    """Writes the decoder of ``source_dir`` with ``bits``-bit weights to ``model_dir``.

    Args:
        source_dir: holds its graph in fp32.
        model_dir: where to write.
        bits: of the weights of products.
        block_size: how many weights share a scale.
        algorithm: how weights of 4 bits are rounded.
        batches: calibration rows, which ``gptq`` looks at.
        others: names of products whose weights get another precision.
        bits_of_others: which; 32 leaves them as they are.

    Raises:
        CompressionError: the graph holds no product with constant weights.
    """
    config = KQuantWeightOnlyQuantConfig() if algorithm == "k_quant" else None
    model = onnx.load(source_dir / "model.onnx")
    model = quantize_products(model, bits=bits, block_size=block_size, but=others, config=config)
    if algorithm == "gptq" and bits == 4:
        refill(model, source_dir, batches, block_size=block_size)
    if others and bits_of_others == 8:  # which are all that is left
        model = quantize_products(model, bits=8, block_size=block_size)
    if not any(node.op_type == "MatMulNBits" for node in model.graph.node):
        raise CompressionError(f"'{source_dir}' holds no matrix product that could be quantized.")
    save_graph(model, model_dir)
    shutil.copy(source_dir / "genai_config.json", model_dir)


def quantize_products(
    model: onnx.ModelProto,
    *,
    bits: int,
    block_size: int,
    but: Collection[str] = (),
    config: KQuantWeightOnlyQuantConfig | None = None,
) -> onnx.ModelProto:
    """A graph in fp32 with the weights of its products in blocks, ``but`` for some by name."""
    # it announces every node at INFO on the root logger's children
    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)
    quantizer = MatMulNBitsQuantizer(
        model,
        bits=bits,
        block_size=block_size,
        is_symmetric=config is None,
        accuracy_level=_INT8_ACTIVATIONS,
        nodes_to_exclude=list(but),
        algo_config=config,
    )
    with redirect_stdout(StringIO()):  # a progress bar of its own
        quantizer.process()
    found: onnx.ModelProto = quantizer.model.model
    return found
