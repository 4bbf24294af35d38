"""Units are what reads the same values, and the one that rounding harms most is found."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ray_sft.bundle import Bundle
from ray_sft.compression.quantize_int8 import quantize_dynamically
from ray_sft.compression.sensitivity import most_sensitive, units_of
from ray_sft.core import CompressionError
from ray_sft.inference import OnnxRunner
from tests.compression.conftest import run_chain


@pytest.fixture(scope="module")
def exported(classifier, intents, tmp_path_factory) -> Bundle:
    return run([{"kind": "export_onnx"}], classifier, intents, tmp_path_factory.mktemp("onnx"))


def run(passes, source, examples, folder) -> Bundle:
    steps = run_chain(passes, source, examples, folder)
    return Bundle.open(steps[-1].path)


def test_queries_keys_and_values_are_one_unit(exported):
    sizes = [len(unit) for unit in units_of(exported.model_dir)]
    assert sizes[:4] == [3, 1, 1, 1], "attention, its output, and the two of the feed-forward block"
    assert sizes[:4] * 2 == sizes[:8], "two layers"


def weights(bundle) -> dict[str, np.ndarray]:
    graph = onnx.load(bundle.model_dir / "model.onnx").graph
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer}


def test_the_unit_that_rounding_harms_is_found_and_stays(exported, intents, tmp_path):
    """One unit's weights are made hard to round: a few are a thousand times the others."""
    units = units_of(exported.model_dir)
    path = tmp_path / "hard" / "model.onnx"
    for number in (2, 5):
        model = onnx.load(exported.model_dir / "model.onnx")
        (node,) = (n for n in model.graph.node if n.name == units[number][0])
        (tensor,) = (t for t in model.graph.initializer if t.name == node.input[1])
        values = numpy_helper.to_array(tensor).copy()
        values[0] *= 1000.0
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        path.parent.mkdir(exist_ok=True)
        onnx.save(model, path)
        hard = Hard(exported, path.parent)
        found = most_sensitive(hard, 1, intents, rounding(path.parent))
        assert found == units[number]


class Hard:
    """A bundle with another graph."""

    def __init__(self, bundle, model_dir):
        self.model_dir, self.processor_dir = model_dir, bundle.processor_dir
        self.manifest = bundle.manifest


def rounding(source_dir):
    def quantize(folder, others):
        quantize_dynamically(source_dir, folder, others=others, embeddings=False)

    return quantize


def operators(bundle):
    graph = onnx.load(bundle.model_dir / "model.onnx").graph
    return [node.op_type for node in graph.node]


def test_an_encoder_keeps_as_many_units_in_fp32_as_asked(classifier, intents, tmp_path):
    passes = [{"kind": "export_onnx"}, {"kind": "quantize_int8"}]
    plain = run(passes, classifier, intents, tmp_path / "plain")
    passes[1] = {"kind": "quantize_int8", "units_in_fp32": 2}
    mixed = run(passes, classifier, intents, tmp_path / "mixed")
    kept = mixed.manifest.properties["in_fp32"]
    assert plain.manifest.properties["in_fp32"] == []
    assert operators(plain).count("MatMul") == 0
    assert operators(mixed).count("MatMul") == len(kept) in (2, 4, 6)
    parity = [bundle.manifest.properties["parity"] for bundle in (plain, mixed)]
    assert parity[1] < parity[0]


def test_a_decoder_in_4_bits_has_some_units_in_8(exported_decoder, own_words, tmp_path):
    found = {}
    for count in (0, 2):
        passes = [{"kind": "quantize_int4", "units_in_int8": count}]
        bundle = run(passes, exported_decoder, own_words, tmp_path / str(count))
        graph = onnx.load(bundle.model_dir / "model.onnx").graph
        bits = [
            attribute.i
            for node in graph.node
            if node.op_type == "MatMulNBits"
            for attribute in node.attribute
            if attribute.name == "bits"
        ]
        assert bits.count(8) == len(bundle.manifest.properties["in_int8"])
        assert (8 in bits) == (count > 0)
        assert 4 in bits
        found[count] = bundle.manifest.properties["parity"]
        assert OnnxRunner(bundle.model_dir, num_threads=1)
    assert found[2] < found[0]


def test_as_many_as_there_are_is_refused(exported, intents):
    with pytest.raises(CompressionError, match=r"of which 40 were to be rounded less"):
        most_sensitive(exported, 40, intents, rounding(exported.model_dir))
