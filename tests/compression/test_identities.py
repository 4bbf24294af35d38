"""Neighbours and caches make no difference, and where they do a model is refused."""

import numpy as np
import pytest

from ray_sft.bundle import Bundle
from ray_sft.compression import Compress, StepReport, compress
from ray_sft.compression.gates import check_identities, check_operators
from ray_sft.compression.identities import batching_difference, caching_difference
from ray_sft.core import CompressionError
from ray_sft.inference import Predictor

PASSES = [{"kind": "export_onnx"}, {"kind": "quantize_int8"}]


def run(source, examples, folder) -> list[StepReport]:
    return compress(
        Compress(passes=PASSES, min_speedup=0.0),
        source,
        examples=examples,
        out_dir=folder,
        num_threads=1,
        progress=lambda _: None,
    )


@pytest.fixture(scope="module")
def decoder_steps(decoder, own_words, tmp_path_factory):
    return run(decoder, own_words, tmp_path_factory.mktemp("steps"))


def test_an_encoder_in_fp32_answers_alone_as_in_a_batch_and_in_int8_nearly(
    classifier, intents, tmp_path
):
    _, exported, quantized = run(classifier, intents, tmp_path)
    assert exported.batching <= 1e-5 < quantized.batching < 0.5
    assert exported.caching is quantized.caching is None
    properties = Bundle.open(quantized.path).manifest.properties
    assert properties["batching"] == quantized.batching


def test_a_decoder_answers_alone_as_in_a_batch_and_with_a_cache_as_without(decoder_steps):
    _, exported, quantized = decoder_steps
    for step in (exported, quantized):
        assert step.batching <= 1e-4
        assert step.caching is not None
        assert 0 < step.caching <= 1e-4


def test_what_neighbours_change_is_seen(classifier, intents):
    predictor = Predictor(classifier)
    honest = predictor.runner

    def crowded(batch):
        return {"logits": honest(batch)["logits"] + 0.25 * len(batch["input_ids"])}

    predictor.runner = crowded
    found = batching_difference(predictor, intents["intent"])
    assert found == pytest.approx(0.25 * 7, abs=1e-4)
    with pytest.raises(CompressionError, match=r"drop_layers: answers in a batch differ.*1\.75"):
        check_identities("drop_layers", batching=found, caching=None, tolerance=1e-4)


def test_what_a_cache_changes_is_seen(decoder_steps, own_words):
    predictor = Predictor(Bundle.open(decoder_steps[1].path))
    honest = predictor.runner

    def forgetful(batch):
        logits = honest(batch)["logits"].copy()
        logits[:, 30:] += 0.5
        return {"logits": logits}

    assert caching_difference(predictor, own_words["reply"]) <= 1e-4
    predictor.runner = forgetful
    found = caching_difference(predictor, own_words["reply"])
    assert found == pytest.approx(0.5, abs=1e-3)
    with pytest.raises(CompressionError, match="with a cache differ from those without"):
        check_identities("export_onnx", batching=0.0, caching=found, tolerance=1e-4)
    with pytest.raises(CompressionError, match="in a batch"):
        check_identities("export_onnx", batching=np.nan, caching=None, tolerance=1e-4)


def test_a_quantized_graph_that_unpacks_its_weights_is_refused():
    check_operators("export_onnx", "fp32", {"MatMul": 8})
    check_operators("quantize_int8", "int8", {"MatMul": 1, "DynamicQuantizeMatMul": 7})
    with pytest.raises(CompressionError, match=r"no product on integers \(it has: 8 MatMul, 8 Deq"):
        check_operators("quantize_int8", "int8", {"MatMul": 8, "DequantizeLinear": 8})
