"""Scales that are found beforehand: nearly the same answers, and the same whoever asks beside."""

import pytest

from ray_sft.bundle import Bundle
from ray_sft.compression import ExportOnnx, PassContext, QuantizeStatic
from ray_sft.core import CompressionError
from ray_sft.inference import Predictor
from tests.compression.conftest import LABELS, TEXTS, apply, run_chain


def run(step, source, examples, folder):
    passes = [{"kind": "export_onnx"}, {"kind": "quantize_static", **step}]
    return run_chain(passes, source, examples, folder)


@pytest.mark.parametrize("calibration", ["percentile", "entropy", "minmax"])
def test_answers_are_nearly_the_same_and_never_depend_on_neighbours(
    classifier, intents, tmp_path, calibration, capsys
):
    step = {"calibration": calibration, "rows": 16}
    trained, exported, quantized = run(step, classifier, intents, tmp_path)
    assert quantized.batching <= 1e-5
    assert exported.parity < quantized.parity < 1.0
    assert quantized.metrics["intent/loss"] == pytest.approx(
        trained.metrics["intent/loss"], abs=0.1
    )
    assert quantized.operators["QLinearMatMul"] >= 12
    assert "MatMul" not in quantized.operators
    assert quantized.num_bytes < 0.5 * exported.num_bytes
    properties = Bundle.open(quantized.path).manifest.properties
    assert properties["calibration"] == calibration
    assert not capsys.readouterr().out


def test_units_stay_in_fp32_where_asked(classifier, intents, tmp_path):
    found = {}
    for count in (0, 2):
        *_, step = run(
            {"units_in_fp32": count, "rows": 16}, classifier, intents, tmp_path / str(count)
        )
        found[count] = step
        assert len(Bundle.open(step.path).manifest.properties["in_fp32"]) >= count
    assert found[2].operators["QLinearMatMul"] < found[0].operators["QLinearMatMul"]
    assert found[2].parity < found[0].parity


def test_several_heads_are_calibrated_together(two_heads, processor, tmp_path):
    rows = {
        "intent": [{"text": text, "label": LABELS[i % 4]} for i, text in enumerate(TEXTS)],
        "vector": [
            {"text": one, "positive": two, "negatives": [TEXTS[17]]}
            for one, two in zip(TEXTS[:8], TEXTS[8:16], strict=True)
        ],
    }
    examples = {n: t.encode(rows[n], processor) for n, t in two_heads.manifest.tasks.items()}
    *_, step = run({"rows": 8}, two_heads, examples, tmp_path)
    for predictor in Predictor.each(Bundle.open(step.path)).values():
        assert len(predictor.predict([{"text": text} for text in TEXTS])) == len(TEXTS)
    assert step.batching <= 1e-5


def test_what_cannot_be_calibrated_is_refused(decoder, classifier, intents, tmp_path):
    with pytest.raises(CompressionError, match="is for encoders"):
        QuantizeStatic().check(decoder)
    source, _ = apply(ExportOnnx(), classifier, tmp_path / "onnx")
    few = PassContext({"intent": intents["intent"][:5]})
    with pytest.raises(CompressionError, match="needs 8 training rows or more"):
        apply(QuantizeStatic(), source, tmp_path / "static", few)
