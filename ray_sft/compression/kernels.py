"""How long this machine takes for a model's products in each precision, found in seconds.

Which precision is the fastest depends on the processor (integer instructions, bandwidth), on the
sizes of the products, and on how many rows they are given: one token of a decoder waits for memory,
a batch for arithmetic. So every distinct product of the model is timed by itself, with random
weights, at the number of rows of one request and of a batch, by the same quantizers that the passes
use. A model of any size takes as long as its distinct products.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from pydantic import Field

from ray_sft.bundle import Bundle
from ray_sft.compression.block_quantization import BlockSize, quantize_products
from ray_sft.compression.quantize_int8 import quantize_dynamically
from ray_sft.core import Config
from ray_sft.models import load_processor, load_tasks
from ray_sft.tasks import Array

__all__ = ["Kernel", "KernelTiming", "fastest", "products_of", "time_kernels"]

Kernel: TypeAlias = Literal["fp32", "int8", "int4"]

_BLOCK_SIZES: tuple[BlockSize, ...] = (32, 64, 128)
_WIDEST = 8192
"""Outputs of a product beyond these are reckoned, not timed: time grows with them."""
_ROUNDS = 9
_WORTH_S = 0.002
"""A round repeats a product until it took so long, so that the clock does not matter."""


class KernelTiming(Config):
    """What all products of a model take in one precision, on so many threads."""

    kernel: Kernel
    """Precision of the weights."""
    block_size: int = Field(ge=0)
    """Weights that share a scale; 0 where those of an output do."""
    num_threads: int = Field(ge=1)
    """Threads of ONNX Runtime."""
    single_ms: float
    """For the rows of one request: of a decoder, one token."""
    batch_ms: float
    """For the rows of a batch."""


def products_of(source: Bundle) -> Counter[tuple[int, int]]:
    """How often a model multiplies by weights of (inputs, outputs); attention has none."""
    processor = load_processor(source.processor_dir)
    model: Any = load_tasks(str(source.model_dir), source.manifest.tasks, processor=processor)
    return Counter(
        (part.in_features, part.out_features)
        for part in model.modules()
        if isinstance(part, torch.nn.Linear)
    )


def time_kernels(
    products: Counter[tuple[int, int]],
    *,
    in_blocks: bool,
    single_rows: int,
    batch_rows: int,
    max_threads: int,
) -> list[KernelTiming]:
    """Times every precision on 1, 2, 4, ... threads.

    Args:
        products: of the model, see `products_of`.
        in_blocks: whether weights are quantized in blocks, as those of decoders are.
        single_rows: of one request.
        batch_rows: of a batch.
        max_threads: at most so many.
    """
    forms: list[tuple[Kernel, int]] = [("fp32", 0)]
    if in_blocks:
        forms += [(kernel, size) for kernel in ("int8", "int4") for size in _BLOCK_SIZES]
    else:
        forms.append(("int8", 0))
    rows = single_rows, batch_rows
    sums = {
        (kernel, size, threads): [0.0, 0.0]
        for kernel, size in forms
        for threads in _thread_counts(max_threads)
    }
    rng = np.random.default_rng(0)
    for (num_inputs, num_outputs), count in products.items():
        width = min(num_outputs, _WIDEST)
        weights_KN = rng.standard_normal((num_inputs, width), dtype=np.float32)
        for kernel, size in forms:
            with tempfile.TemporaryDirectory() as folder:
                path = _write(weights_KN, kernel, size, Path(folder))
                for threads in _thread_counts(max_threads):
                    for place, seconds in enumerate(_times(path, num_inputs, rows, threads)):
                        scale = count * num_outputs / width * 1e3
                        sums[kernel, size, threads][place] += scale * seconds
    return [
        KernelTiming(
            kernel=kernel,
            block_size=size,
            num_threads=threads,
            single_ms=single_ms,
            batch_ms=batch_ms,
        )
        for (kernel, size, threads), (single_ms, batch_ms) in sums.items()
    ]


def fastest(
    timings: Sequence[KernelTiming], *, alone: bool, kernel: Kernel | None = None
) -> KernelTiming:
    """The best for requests ``alone``, or else in batches; of one ``kernel`` or of all."""
    chosen = [timing for timing in timings if kernel in (None, timing.kernel)]
    return min(chosen, key=lambda one: one.single_ms if alone else one.batch_ms)


def _thread_counts(max_threads: int) -> list[int]:
    """1, 2, 4, ... and the most."""
    powers = [1 << power for power in range(max_threads.bit_length())]
    return sorted({*(count for count in powers if count <= max_threads), max_threads})


def _write(weights_KN: Array, kernel: Kernel, block_size: int, folder: Path) -> Path:
    """A graph of one product, in ``folder``."""
    num_inputs, num_outputs = weights_KN.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", num_inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", num_outputs])],
        [numpy_helper.from_array(weights_KN, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    if kernel != "fp32" and block_size:
        model = quantize_products(
            model, bits=4 if kernel == "int4" else 8, block_size=_block_size(block_size)
        )
    path = folder / "model.onnx"
    onnx.save(model, path)
    if kernel == "fp32" or block_size:
        return path
    quantized = folder / "quantized"
    quantized.mkdir()
    quantize_dynamically(folder, quantized, others=(), embeddings=False)
    return quantized / "model.onnx"


def _block_size(size: int) -> BlockSize:
    return next(one for one in _BLOCK_SIZES if one == size)


def _times(path: Path, num_inputs: int, rows: Sequence[int], num_threads: int) -> Iterator[float]:
    """Median seconds of the product for each number of rows."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for count in rows:
        feed = {"x": rng.standard_normal((count, num_inputs), dtype=np.float32)}
        began = time.perf_counter()
        session.run(None, feed)
        session.run(None, feed)
        repeats = max(1, round(_WORTH_S / max(1e-9, (time.perf_counter() - began) / 2)))
        rounds = []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            for _ in range(repeats):
                session.run(None, feed)
            rounds.append((time.perf_counter() - began) / repeats)
        yield float(np.median(rounds))
