import pytest
import torch
from safetensors.torch import load_file

from ray_sft.bundle import Bundle
from ray_sft.compression import HalfPrecision
from ray_sft.core import CompressionError
from ray_sft.inference import Predictor, check_samples
from tests.compression.conftest import apply, run_chain


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["classifier", "two_heads", "decoder"])
def test_weights_are_those_of_the_source_rounded(request, tmp_path, name, dtype):
    source: Bundle = request.getfixturevalue(name)
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    (report, half) = run_chain([{"kind": "half_precision", "dtype": dtype}], source, {}, tmp_path)
    bundle = Bundle.open(half.path)
    before, after = (
        {k: v for file in one.model_dir.glob("*.safetensors") for k, v in load_file(file).items()}
        for one in (source, bundle)
    )
    assert before.keys() == after.keys()
    for key, weights in after.items():
        assert weights.dtype == kind
        assert torch.equal(weights, before[key].to(kind))
    assert half.num_bytes < 0.6 * report.num_bytes
    assert 0 < half.parity < 0.2
    assert bundle.manifest.properties["dtype"] == dtype
    check_samples(Predictor(bundle)) if name != "two_heads" else None


def test_what_is_half_is_not_quantized(classifier, tmp_path):
    chain = [{"kind": kind} for kind in ("half_precision", "export_onnx")]
    with pytest.raises(CompressionError, match=r"needs fp32 weights, but.* has half weights"):
        run_chain(chain, classifier, {}, tmp_path)


def test_values_that_do_not_fit_are_refused(make_encoder, tmp_path):
    def enlarge(model):
        with torch.no_grad():
            model.classifier.weight[0, 0] = 1e6

    source = make_encoder(num_layers=1, edit=enlarge)
    with pytest.raises(CompressionError, match=r"'classifier.weight' holds values that fp16"):
        apply(HalfPrecision(dtype="fp16"), source, tmp_path / "half")
    apply(HalfPrecision(), source, tmp_path / "other")
