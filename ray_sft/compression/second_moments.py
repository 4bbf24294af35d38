"""What the values in a graph look like on training rows: X^T X of each, over tokens.

It is the Hessian of the squared error of a product that reads them (up to a factor of 2), and their
covariance where they have none but a scale of their own.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from ray_sft.compression.graph import save_graph
from ray_sft.inference import OnnxRunner, open_session
from ray_sft.tasks import Array, Batch

__all__ = ["second_moments"]

_MEMORY = 2_000_000_000
"""Bytes that the figures of one run over the rows may take."""


def second_moments(
    source_dir: Path, sizes: Mapping[str, int], batches: Sequence[Batch]
) -> Iterator[tuple[str, Array]]:
    """X^T X over all tokens but padding, (K, K), of each named value of a graph.

    Args:
        source_dir: holds the graph in fp32.
        sizes: by name of a value, its last axis.
        batches: calibration rows.
    """
    runner = OnnxRunner(source_dir, num_threads=1)
    feeds = [runner.feeds(batch) for batch in batches]
    left = list(sizes)
    while left:
        group = [left.pop(0)]
        while left and 8 * sum(sizes[name] ** 2 for name in (*group, left[0])) <= _MEMORY:
            group.append(left.pop(0))
        totals = {name: np.zeros((sizes[name], sizes[name])) for name in group}
        session = _session_with(source_dir, group)
        for feed in feeds:
            is_token = feed["attention_mask"].astype(bool)
            for name, values in zip(group, session.run(group, feed), strict=True):
                # what is computed of the last token alone has none of padding
                is_whole = values.shape[:2] == is_token.shape
                rows = values[is_token] if is_whole else values.reshape(-1, sizes[name])
                totals[name] += rows.T.astype(np.float64) @ rows.astype(np.float64)
        yield from totals.items()


def _session_with(source_dir: Path, names: Sequence[str]) -> ort.InferenceSession:
    """The graph of a folder with further values among its outputs."""
    model = onnx.load(source_dir / "model.onnx")
    have = {value.name for value in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in have
    )
    with tempfile.TemporaryDirectory() as folder:
        save_graph(model, Path(folder))
        return open_session(Path(folder), num_threads=1, spinning=False)
