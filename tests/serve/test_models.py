from pathlib import Path

import pytest

from ray_sft.bundle import Bundle
from ray_sft.core import BundleError, ServeError
from serve.args import ServiceArgs
from serve.metrics import ServiceMetrics
from serve.models import load_models


def load(path: Path) -> None:
    args = ServiceArgs(bundles={"model": str(path)})
    load_models(args, num_threads=1, metrics=ServiceMetrics()).close()


def test_a_damaged_bundle_is_refused(damaged_bundle: Path) -> None:
    with pytest.raises(BundleError, match="is damaged"):
        load(damaged_bundle)


def test_torch_weights_of_a_decoder_are_refused(torch_generator_bundle: Bundle) -> None:
    with pytest.raises(ServeError, match="from ONNX bundles only"):
        load(torch_generator_bundle.path)


def test_a_bundle_that_answers_otherwise_than_recorded_is_refused(drifted_bundle: Path) -> None:
    with pytest.raises(BundleError, match="answered differently"):
        load(drifted_bundle)
