"""Products through fewer numbers: a weight matrix as the product of two thin ones.

W of K inputs and N outputs becomes A B with an inner width r, which is fewer weights where
r < K N / (K + N). Of all matrices of that rank A B changes the outputs the least on training rows:
with X^T X = L L^T, the truncated singular value decomposition of L^T W, and A = L^-T U S^(1/2),
B = S^(1/2) V^T. Wang et al. 2024, "SVD-LLM", arXiv:2403.07378, section 3.1 and theorem 3.2.

The stock architectures have no place for two matrices, so this works on the graph, behind the
export. An encoder's matrices are small and of nearly full rank: `prune_feed_forward` with `distil`
gives more for what it costs. No training follows, so little can be taken away.
"""

from typing import ClassVar, Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper
from pydantic import Field

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.compression.graph import drop_unread, products, save_graph
from ray_sft.compression.second_moments import second_moments
from ray_sft.compression.sensitivity import calibration_batches
from ray_sft.core import CompressionError
from ray_sft.tasks import Array

__all__ = ["LowRank", "factorized"]

_DAMPING = 1e-4
"""Of the mean of the diagonal, so that inputs that never vary do no harm."""
_MULTIPLE = 8
"""What processors multiply at once; widths in between are no faster."""


class LowRank(Pass):
    """The same graph with thinner products."""

    consumes: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    precision: ClassVar[Precision] = "fp32"
    variant: ClassVar[str] = "low_rank"

    kind: Literal["low_rank"] = "low_rank"
    ratio: float = Field(default=0.3, gt=0, lt=1)
    """Share of the weights of each product to take away."""

    @property
    def needs_examples(self) -> bool:
        """See `Pass.needs_examples`."""
        return True

    def check(self, source: Bundle) -> None:
        """See `Pass.check`: encoders only."""
        if source.is_decoder:
            raise CompressionError(
                f"low_rank is for encoders; '{source.manifest.name}' is a decoder, whose graph is "
                "of products that belong to its cache. Use prune_feed_forward or prune_heads."
            )

    def _rank(self, num_inputs: int, num_outputs: int) -> int:
        """The inner width that leaves the share of weights; 0 where none does."""
        kept = num_inputs * num_outputs * (1 - self.ratio)
        return int(kept / (num_inputs + num_outputs)) // _MULTIPLE * _MULTIPLE

    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """See `Pass.apply`."""
        self.check(source)
        batches = list(calibration_batches(source, context.examples))
        if not batches:
            raise CompressionError("low_rank looks at training rows, but there are none.")
        model = onnx.load(source.model_dir / "model.onnx")
        found = products(model.graph)
        sizes = {node.input[0]: int(weights.dims[0]) for node, weights in found}
        moments = dict(second_moments(source.model_dir, sizes, batches))
        ranks: dict[str, int] = {}
        for node, weights in found:
            if rank := self._rank(*weights.dims):
                weight_KN = numpy_helper.to_array(weights)
                first, second = factorized(weight_KN, moments[node.input[0]], rank=rank)
                ranks[node.name] = rank
                _replace(model.graph, node, first, second)
        if not ranks:
            raise CompressionError(
                f"low_rank: no product of '{source.manifest.name}' is large enough to be thinned. "
                "Lower ratio, or leave the pass out."
            )
        drop_unread(model.graph)
        save_graph(model, out.model_dir)
        return PassResult({"ranks": ranks})


def factorized(weight_KN: Array, moments_KK: Array, *, rank: int) -> tuple[Array, Array]:
    """(K, rank) and (rank, N), whose product changes outputs the least of all of that rank."""
    damping = _DAMPING * np.trace(moments_KK) / len(moments_KK)
    factor_KK = np.linalg.cholesky(moments_KK + damping * np.eye(len(moments_KK)))
    left, values, right = np.linalg.svd(factor_KK.T @ weight_KN, full_matrices=False)
    roots = np.sqrt(values[:rank])
    first = np.linalg.solve(factor_KK.T, left[:, :rank] * roots)
    second = roots[:, None] * right[:rank]
    return first.astype(np.float32), second.astype(np.float32)


def _replace(graph: onnx.GraphProto, node: onnx.NodeProto, first: Array, second: Array) -> None:
    """Puts two products in the place of one."""
    names = [f"{node.name}_{part}" for part in ("first", "second", "between")]
    graph.initializer.extend(
        numpy_helper.from_array(array, name)
        for array, name in zip((first, second), names, strict=False)
    )
    pair = [
        helper.make_node("MatMul", [node.input[0], names[0]], [names[2]], name=names[0]),
        helper.make_node("MatMul", [names[2], names[1]], [node.output[0]], name=names[1]),
    ]
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for one in reversed(pair):
        graph.node.insert(place, one)
