"""Zeros where they matter least, by the papers' scores, and nowhere else."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from ray_sft.compression import Compress, PassContext, Sparsify
from ray_sft.compression.rules import check_passes
from ray_sft.core import CompressionError, ConfigError, validate
from ray_sft.inference import Predictor
from tests.compression.conftest import TEXTS, apply


def weights(bundle):
    """The products of the layers, by name, and all that is no product of a layer."""
    model = AutoModelForSequenceClassification.from_pretrained(bundle.model_dir)
    inside = {
        name: tensor.numpy()
        for name, tensor in model.state_dict().items()
        if ".layer." in name and name.endswith("weight") and tensor.ndim == 2
    }
    outside = {n: t.numpy() for n, t in model.state_dict().items() if n not in inside}
    return inside, outside


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
def test_the_smallest_weights_of_each_row_go(classifier, tmp_path, pattern):
    step = Sparsify(by="magnitude", pattern=pattern)
    bundle, properties = apply(step, classifier, tmp_path / "sparse")
    assert properties == {"sparsity": 0.5, "faster_on_onnx_runtime": False}
    before, after = weights(classifier), weights(bundle)
    assert all(np.array_equal(before[1][name], after[1][name]) for name in before[1])
    for name, matrix in before[0].items():
        groups = matrix.reshape(-1, 4) if pattern == "2:4" else matrix
        half = np.sort(np.abs(groups), axis=1)[:, groups.shape[1] // 2, None]
        expected = np.where(np.abs(groups) >= half, groups, 0).reshape(matrix.shape)
        np.testing.assert_array_equal(after[0][name], expected)


def test_wanda_weighs_by_the_norm_of_what_is_read(classifier, intents, tmp_path):
    """By NumPy from what the first layer reads, text by text without padding."""
    step = Sparsify(sparsity=0.25)
    bundle, _ = apply(step, classifier, tmp_path / "sparse", PassContext(intents))
    model = AutoModelForSequenceClassification.from_pretrained(classifier.model_dir).eval()
    seen = []
    part = model.bert.encoder.layer[0].attention.self.query
    part.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0][0].numpy()))
    with torch.no_grad():
        for example in intents["intent"]:
            model(input_ids=torch.from_numpy(example.arrays["input_ids"]).long()[None])
    norms = np.sqrt((np.concatenate(seen) ** 2).sum(axis=0))
    matrix = part.weight.detach().numpy()
    score = np.abs(matrix) * norms
    least = np.argsort(score, axis=1)[:, : matrix.shape[1] // 4]
    expected = matrix.copy()
    np.put_along_axis(expected, least, 0.0, axis=1)
    found = weights(bundle)[0]["bert.encoder.layer.0.attention.self.query.weight"]
    np.testing.assert_array_equal(found, expected)


def test_several_heads_are_pruned_on_one_backbone(two_heads, tmp_path):
    bundle, _ = apply(Sparsify(by="magnitude"), two_heads, tmp_path / "sparse")
    for predictor in Predictor.each(bundle).values():
        assert len(predictor.predict([{"text": text} for text in TEXTS])) == len(TEXTS)


def test_what_cannot_work_is_refused(classifier, intents, tmp_path):
    with pytest.raises(CompressionError, match="needs training rows"):
        apply(Sparsify(), classifier, tmp_path / "sparse")
    with pytest.raises(ConfigError, match=r"2:4 is a sparsity of 0\.5"):
        validate(Sparsify, {"pattern": "2:4", "sparsity": 0.7}, what="pass")
    passes = Compress(passes=[{"kind": "sparsify"}, {"kind": "distil"}]).passes
    context = PassContext(intents, retrain=lambda *_, **__: tmp_path)
    with pytest.raises(CompressionError, match="would take back what sparsify did"):
        check_passes(passes, classifier, context)
