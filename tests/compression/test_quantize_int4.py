"""Weights of 4 bits, rounded in two ways, both of them computed with 8-bit activations."""

import onnx
import pytest

from ray_sft.bundle import Bundle
from ray_sft.compression.block_quantization import quantize_blocks
from ray_sft.core import CompressionError
from tests.compression.conftest import run_chain


def test_every_way_gives_4_bits_and_the_slower_one_loses_less(
    exported_decoder, own_words, tmp_path, capsys
):
    losses = {}
    for algorithm in ("rtn", "k_quant"):
        passes = [{"kind": "quantize_int4", "algorithm": algorithm, "block_size": 16}]
        before, step = run_chain(passes, exported_decoder, own_words, tmp_path / algorithm)
        losses[algorithm] = step.metrics["reply/loss"] - before.metrics["reply/loss"]
        graph = onnx.load(Bundle.open(step.path).model_dir / "model.onnx").graph
        nodes = [node for node in graph.node if node.op_type == "MatMulNBits"]
        found = [{one.name: one.i for one in node.attribute} for node in nodes]
        assert {(one["bits"], one["block_size"], one["accuracy_level"]) for one in found} == {
            (4, 16, 4)
        }
        assert not any(node.op_type == "MatMul" for node in graph.node)
    assert "Progress" not in capsys.readouterr().out
    assert 0 < losses["k_quant"] < losses["rtn"]


def test_a_graph_without_products_is_refused(exported_decoder, tmp_path):
    empty = onnx.load(exported_decoder.model_dir / "model.onnx")
    del empty.graph.node[:]
    onnx.save(empty, tmp_path / "model.onnx")
    with pytest.raises(CompressionError, match="no matrix product"):
        quantize_blocks(tmp_path, tmp_path / "out", bits=4, block_size=32)
