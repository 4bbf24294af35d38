import json
from dataclasses import replace

import pytest

from ray_sft.bundle import Bundle
from ray_sft.core import BundleError
from ray_sft.inference import Predictor, check_samples, record_samples


def with_samples(bundle, folder, change) -> Predictor:
    """A predictor of ``bundle`` whose samples were changed after the fact."""
    for file in bundle.path.rglob("*"):
        if file.is_file():
            target = folder / file.relative_to(bundle.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    samples = list(bundle.samples())
    change(samples)
    lines = [json.dumps(sample) + "\n" for sample in samples]
    (folder / "samples.jsonl").write_text("".join(lines), encoding="utf-8")
    return Predictor(replace(Bundle(folder, bundle.manifest)))


@pytest.mark.parametrize("name", ["classifier", "onnx_classifier", "decoder", "onnx_decoder"])
def test_a_bundle_answers_its_own_samples(request, name):
    check_samples(Predictor(request.getfixturevalue(name)))


def test_a_probability_that_drifts_is_caught(classifier, tmp_path):
    def change(samples):
        samples[2]["response"]["scores"][0]["score"] -= 0.1

    with pytest.raises(BundleError, match=r"sample 3 .*score is .*expected"):
        check_samples(with_samples(classifier, tmp_path, change))


def test_another_label_is_caught(classifier, tmp_path):
    def change(samples):
        samples[0]["response"]["label"] = "something else"

    with pytest.raises(BundleError, match=r"response\.label"):
        check_samples(with_samples(classifier, tmp_path, change))


def test_a_loss_that_drifts_is_caught(decoder, tmp_path):
    def change(samples):
        samples[0]["response"]["loss_sum"] *= 1.1

    with pytest.raises(BundleError, match=r"sample 1 .*loss_sum"):
        check_samples(with_samples(decoder, tmp_path, change))


def test_scores_may_change_places_where_they_are_nearly_equal(classifier, tmp_path):
    def change(samples):
        samples[0]["response"]["scores"].reverse()

    check_samples(with_samples(classifier, tmp_path, change))


def test_unusable_rows_are_left_out_and_sixteen_are_enough(classifier, texts):
    predictor = Predictor(classifier)
    rows = [{"text": ""}, {"label": "card"}, *({"text": text, "label": "x"} for text in texts * 5)]
    pairs = record_samples(predictor, rows)
    assert len(pairs) == 16
    assert pairs[0]["request"] == {"text": texts[0]}
