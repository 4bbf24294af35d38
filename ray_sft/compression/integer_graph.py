"""How the passes that write encoders in int8 call ONNX Runtime's quantizers."""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType

from ray_sft.compression.graph import small_tables

__all__ = ["quantizer_options", "without_advice"]


def quantizer_options(
    source_dir: Path, *, name: str, others: Collection[str], embeddings: bool
) -> dict[str, Any]:
    """Weights in int8 with a scale for each output, of products but ``others`` and of words.

    ONNX Runtime fuses the integer operators of the standard graph when it loads it.
    """
    return {
        "op_types_to_quantize": ["MatMul", "Gather"] if embeddings else ["MatMul"],
        "nodes_to_exclude": [*small_tables(source_dir, name=name), *others],
        "per_channel": True,
        "weight_type": QuantType.QInt8,
        "extra_options": {
            "MatMulConstBOnly": True,
            "DefaultTensorType": onnx.TensorProto.FLOAT,
        },
    }


@contextmanager
def without_advice() -> Iterator[None]:
    """Keeps advice on pre-processing to itself, which the quantizers log to the root."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
