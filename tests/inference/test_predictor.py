import numpy as np
import pytest

from ray_sft.bundle import Bundle
from ray_sft.core import BundleError
from ray_sft.inference import Predictor
from ray_sft.tasks import Rejected


def scores(response) -> list[float]:
    return [item.score for item in sorted(response.scores, key=lambda item: item.label)]


@pytest.fixture(params=["classifier", "onnx_classifier"])
def predictor(request) -> Predictor:
    return Predictor(request.getfixturevalue(request.param))


def test_probabilities_are_the_softmax_of_the_models_logits(predictor, texts):
    (example,) = predictor.encode([{"text": texts[0]}])
    ids = example.arrays["input_ids"][None].astype(np.int64)
    logits = predictor.runner({"input_ids": ids, "attention_mask": np.ones_like(ids)})["logits"][0]
    expected = np.exp(logits) / np.exp(logits).sum()
    (response,) = predictor.run([example])
    assert response.label == predictor.task.labels[int(logits.argmax())]
    np.testing.assert_allclose(scores(response), expected, atol=1e-6)


@pytest.mark.parametrize("budget", [1, 40, 4096])
def test_answers_keep_their_order_for_any_batch_budget(predictor, texts, budget):
    rows = [{"text": text} for text in texts]
    alone = [scores(predictor.predict([row])[0]) for row in rows]
    together = [scores(item) for item in predictor.predict(rows, max_batch_tokens=budget)]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert len({tuple(np.round(row, 4)) for row in alone}) == len(rows)  # they can be told apart


def test_rejected_rows_stay_in_place(predictor, texts):
    found = predictor.predict([{"text": ""}, {"text": texts[1]}, {}, {"text": texts[0]}])
    assert [isinstance(item, Rejected) for item in found] == [True, False, True, False]
    np.testing.assert_allclose(
        scores(found[3]), scores(predictor.predict([{"text": texts[0]}])[0]), atol=1e-6
    )


def test_padding_further_changes_nothing(predictor, texts):
    examples = predictor.encode([{"text": text} for text in texts[:3]])
    plain, wide = predictor.run(examples), predictor.run(examples, pad_to=64)
    np.testing.assert_allclose(
        [scores(item) for item in wide], [scores(item) for item in plain], atol=1e-6
    )


def test_padding_further_changes_no_score_of_a_decoder(onnx_decoder):
    predictor = Predictor(onnx_decoder)
    examples = predictor.encode([sample["request"] for sample in onnx_decoder.samples()])
    plain, wide = predictor.run(examples), predictor.run(examples, pad_to=100)
    np.testing.assert_allclose(
        [item.loss_sum for item in wide], [item.loss_sum for item in plain], rtol=1e-5
    )
    assert [item.num_targets for item in wide] == [item.num_targets for item in plain]


def test_nothing_in_nothing_out(predictor):
    assert predictor.predict([]) == []
    assert predictor.run([]) == []


def test_a_corrupted_bundle_is_not_opened(classifier, tmp_path):
    copy = tmp_path / "copy"
    for file in classifier.path.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(classifier.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    weights = copy / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match=r"damaged.*model\.safetensors"):
        Predictor(Bundle.open(copy))
