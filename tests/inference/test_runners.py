import numpy as np
import pytest
import torch

from ray_sft.core import BundleError
from ray_sft.inference import OnnxRunner, Predictor, TorchRunner, torch_threads


def batch_of(bundle, rows):
    predictor = Predictor(bundle)
    batch = predictor.task.collate(predictor.encode(rows), predictor.processor)
    return predictor, {name: batch[name] for name in ("input_ids", "attention_mask")}


def test_onnx_equals_torch_for_a_classifier(classifier, onnx_classifier, texts):
    predictor, batch = batch_of(classifier, [{"text": text} for text in texts])
    found = OnnxRunner(onnx_classifier.model_dir, num_threads=1)(batch)
    assert list(found) == ["logits"]
    np.testing.assert_allclose(found["logits"], predictor.runner(batch)["logits"], atol=1e-4)


def test_onnx_equals_torch_for_a_decoder_at_every_real_token(decoder, onnx_decoder):
    rows = [sample["request"] for sample in decoder.samples()]
    predictor, batch = batch_of(decoder, rows)
    found = OnnxRunner(onnx_decoder.model_dir, num_threads=1)(batch)
    assert list(found) == ["logits"]
    real = batch["attention_mask"].astype(bool)
    expected = predictor.runner(batch)["logits"]
    np.testing.assert_allclose(found["logits"][real], expected[real], atol=1e-4)


def test_torch_runner_evaluates_and_leaves_training_mode_alone(classifier, texts):
    predictor, batch = batch_of(classifier, [{"text": texts[0]}])
    module = predictor.runner.module
    module.train()
    first, second = TorchRunner(module)(batch), TorchRunner(module)(batch)
    assert module.training
    np.testing.assert_array_equal(first["logits"], second["logits"])  # no dropout


def test_torch_threads_are_set_for_the_block_only():
    former = torch.get_num_threads()
    with torch_threads(former + 1):
        assert torch.get_num_threads() == former + 1
    assert torch.get_num_threads() == former


def test_a_folder_without_graph_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"no model\.onnx"):
        OnnxRunner(tmp_path, num_threads=1)


def test_a_broken_graph_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match="cannot load"):
        OnnxRunner(tmp_path, num_threads=1)


def test_an_input_that_the_task_does_not_have_is_named(onnx_classifier):
    runner = OnnxRunner(onnx_classifier.model_dir, num_threads=1)
    with pytest.raises(BundleError, match=r"asks for 'attention_mask'.*it has: input_ids"):
        runner({"input_ids": np.ones((1, 4), dtype=np.int64)})
