from pathlib import Path

import pytest

from ray_sft.bundle import Bundle, BundleWriter
from ray_sft.compression import ExportOnnx
from ray_sft.core import BundleError, ServeError
from ray_sft.inference import Predictor, record_samples
from ray_sft.tasks import CausalClozeClassification
from serve.args import ServiceArgs
from serve.metrics import ServiceMetrics
from serve.models import load_models


def load(path: Path) -> None:
    args = ServiceArgs(bundles={"model": str(path)})
    load_models(args, num_threads=1, metrics=ServiceMetrics()).close()


def test_a_decoder_that_chooses_labels_is_a_classifier(
    torch_generator_bundle: Bundle, tmp_path: Path
) -> None:
    source, labels = torch_generator_bundle, ("billing", "delivery")
    task = CausalClozeClassification(labels=labels, max_length=64)
    update = {"variant": "onnx", "format": "onnx", "tasks": {"intent": task}, "files": {}}
    with BundleWriter(tmp_path / "choices") as out:
        ExportOnnx().apply(source, out)
        out.copy_processor(source)
        manifest = source.manifest.model_copy(update=update)
        predictor = Predictor(out.draft(manifest))
        out.write_samples(record_samples(predictor, [{"text": "where is my parcel"}]))
        out.write_card("tiny")
        out.finish(manifest)
    args = ServiceArgs(bundles={"choices": str(tmp_path / "choices")})
    models = load_models(args, num_threads=1, metrics=ServiceMetrics())
    name, found = models.labeller(None)
    assert (name, found.task) == ("choices", task)
    models.close()


def test_a_damaged_bundle_is_refused(damaged_bundle: Path) -> None:
    with pytest.raises(BundleError, match="is damaged"):
        load(damaged_bundle)


def test_torch_weights_of_a_decoder_are_refused(torch_generator_bundle: Bundle) -> None:
    with pytest.raises(ServeError, match="from ONNX bundles only"):
        load(torch_generator_bundle.path)


def test_a_bundle_that_answers_otherwise_than_recorded_is_refused(drifted_bundle: Path) -> None:
    with pytest.raises(BundleError, match="answered differently"):
        load(drifted_bundle)
