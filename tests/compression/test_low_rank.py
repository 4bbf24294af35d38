"""Thin products: the best of their rank on the rows that they were made for."""

import numpy as np
import onnx
import pytest

from ray_sft.bundle import Bundle
from ray_sft.compression import LowRank
from ray_sft.compression.low_rank import factorized
from ray_sft.core import CompressionError
from tests.compression.conftest import run_chain

RNG = np.random.default_rng(0)


def test_a_matrix_of_low_rank_is_found_again():
    weight = (RNG.normal(size=(30, 4)) @ RNG.normal(size=(4, 20))).astype(np.float32)
    rows = RNG.normal(size=(200, 30))
    first, second = factorized(weight, rows.T @ rows, rank=4)
    assert (first.shape, second.shape) == ((30, 4), (4, 20))
    np.testing.assert_allclose(first @ second, weight, atol=1e-4)


def test_no_other_of_its_rank_changes_the_outputs_less():
    """Eckart and Young for the outputs themselves: the error is what is cut of their SVD."""
    rows = RNG.normal(size=(300, 30)) @ RNG.normal(size=(30, 30))
    weight = RNG.normal(size=(30, 20)).astype(np.float32)
    first, second = factorized(weight, rows.T @ rows, rank=6)
    error = np.square(rows @ (first.astype(np.float64) @ second - weight)).sum()
    least = np.square(np.linalg.svd(rows @ weight, compute_uv=False)[6:]).sum()
    assert error == pytest.approx(least, rel=1e-2)
    left, values, right = np.linalg.svd(weight)
    plain = (left[:, :6] * values[:6]) @ right[:6]
    assert error < 0.8 * np.square(rows @ (plain - weight)).sum()


def test_a_graph_gets_thinner_products_and_can_be_quantized(classifier, intents, tmp_path):
    passes = [
        {"kind": "export_onnx"},
        {"kind": "low_rank", "ratio": 0.2},
        {"kind": "quantize_int8"},
    ]
    _, exported, thin, quantized = run_chain(passes, classifier, intents, tmp_path)
    bundle = Bundle.open(thin.path)
    ranks = bundle.manifest.properties["ranks"]
    assert len(ranks) >= 12
    assert all(rank % 8 == 0 for rank in ranks.values())
    assert num_weights(bundle) < 0.9 * num_weights(Bundle.open(exported.path))
    assert thin.operators["MatMul"] > exported.operators["MatMul"]
    assert exported.parity < thin.parity < 3.0
    assert thin.batching <= 1e-4
    assert quantized.num_bytes < 0.5 * thin.num_bytes


def num_weights(bundle):
    graph = onnx.load(bundle.model_dir / "model.onnx").graph
    return sum(int(np.prod(tensor.dims)) for tensor in graph.initializer)


def test_what_cannot_be_thinned_is_refused(decoder, classifier, intents, tmp_path):
    with pytest.raises(CompressionError, match="low_rank is for encoders"):
        LowRank().check(decoder)
    passes = [{"kind": "export_onnx"}, {"kind": "low_rank", "ratio": 0.99}]
    with pytest.raises(CompressionError, match=r"no product .* is large enough"):
        run_chain(passes, classifier, intents, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"onnx"}
