"""A second bundle for the name ``intents``, and a service whose bundles can change."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from ray_sft.bundle import Bundle, BundleWriter, Manifest
from ray_sft.inference import Predictor, record_samples
from ray_sft.tasks import SequenceClassification
from serve.args import ServiceArgs
from serve.loading import Loader
from serve.metrics import ServiceMetrics
from serve.models import Models, load_models
from serve.release import Wanted
from serve.release.counters import ReleaseCounters
from serve.release.swap import Swapper
from serve.release.swappable import Holder
from tests.serve.conftest import LABELS, TEXTS

MakeClassifier = Callable[..., Bundle]


@pytest.fixture(scope="session")
def make_classifier(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> MakeClassifier:
    """A bundle of a tiny classifier; another seed gives other answers."""

    def make(seed: int, *, labels: tuple[str, ...] = LABELS, **manifest: object) -> Bundle:
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            num_labels=len(labels),
        )
        model = BertForSequenceClassification(config).eval()
        with torch.no_grad():  # the seeds disagree about which label is the likeliest
            model.classifier.weight.mul_(30)
        task = SequenceClassification(labels=labels, max_length=64)
        tree = {"name": "intents", "variant": f"seed-{seed}", "format": "torch"} | manifest
        path = tmp_path_factory.mktemp("bundles") / f"seed-{seed}"
        with BundleWriter(path) as out:
            model.save_pretrained(out.model_dir)
            tokenizer.save_pretrained(out.processor_dir)
            whole = Manifest.model_validate({**tree, "tasks": {"intent": task}})
            predictor = Predictor(out.draft(whole))
            out.write_samples(record_samples(predictor, [{"text": text} for text in TEXTS]))
            out.write_card("tiny")
            return out.finish(whole)

    return make


@pytest.fixture(scope="session")
def first(make_classifier: MakeClassifier) -> Bundle:
    return make_classifier(1)


@pytest.fixture(scope="session")
def second(make_classifier: MakeClassifier) -> Bundle:
    return make_classifier(2)


@pytest.fixture(scope="session")
def other_generator(tmp_path_factory: pytest.TempPathFactory, generator_bundle: Bundle) -> Bundle:
    """Splits texts as ``replies`` does, and prefers the tokens that it thinks unlikely."""
    manifest = generator_bundle.manifest.model_copy(update={"variant": "other", "files": {}})
    with BundleWriter(tmp_path_factory.mktemp("bundles") / "other") as out:
        shutil.copytree(generator_bundle.model_dir, out.model_dir, dirs_exist_ok=True)
        out.copy_processor(generator_bundle)
        _turn_around(out.model_dir)
        requests = [sample["request"] for sample in generator_bundle.samples()]
        out.write_samples(record_samples(Predictor(out.draft(manifest)), requests))
        out.write_card("tiny")
        return out.finish(manifest)


def _turn_around(model_dir: Path) -> None:
    """Changes the sign of the weights that give the logits."""
    graph = onnx.load(model_dir / "model.onnx")
    (weights,) = [one for one in graph.graph.initializer if one.name.startswith("lm_head")]
    weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))
    onnx.save(graph, model_dir / "model.onnx")


def rewritten(bundle: Bundle, path: Path, *, note: str = "") -> Bundle:
    """The same weights as another bundle, by another fingerprint."""
    with BundleWriter(path) as out:
        shutil.copytree(bundle.model_dir, out.model_dir, dirs_exist_ok=True)
        out.copy_processor(bundle)
        if note:
            (out.processor_dir / "note.json").write_text(note)
        out.write_samples(bundle.samples())
        return out.finish(bundle.manifest.model_copy(update={"variant": "again", "files": {}}))


@dataclass
class Changing:
    """Models with what exchanges their bundles."""

    args: ServiceArgs
    models: Models
    metrics: ServiceMetrics
    swapper: Swapper


MakeChanging = Callable[..., Changing]


@pytest.fixture
def make_changing():
    """Serves some bundles; its old ones are closed as soon as they have nothing to do."""
    made: list[Changing] = []

    def make(
        bundles: dict[str, str | Path], *, held: dict[str, Holder] | None = None, **more: object
    ) -> Changing:
        tree = {"bundles": {k: str(v) for k, v in bundles.items()}, "num_cpus": 1} | more
        args = ServiceArgs.model_validate(tree)
        metrics = ServiceMetrics()
        models = load_models(args, num_threads=1, metrics=metrics)
        swapper = Swapper(
            models,
            Loader(args, num_threads=1, metrics=metrics),
            ReleaseCounters(metrics.registry),
            wanted=args.wanted,
            held=held or {},
            grace_s=0.05,
        )
        swapper.open()
        made.append(Changing(args, models, metrics, swapper))
        return made[-1]

    yield make
    for changing in made:
        changing.models.close()


def wanted(release: int, bundles: dict[str, Bundle | str | Path], **more: object) -> Wanted:
    paths = {
        name: str(one.path) if isinstance(one, Bundle) else str(one)
        for name, one in bundles.items()
    }
    return Wanted.model_validate({"release": release, "bundles": paths} | more)


def args_of(*bundles: Bundle, **more: object) -> ServiceArgs:
    """Arguments of a service of up to two bundles, with their fingerprints."""
    names = ("intents", "others")[: len(bundles)]
    return ServiceArgs(
        bundles={name: str(one.path) for name, one in zip(names, bundles, strict=True)},
        fingerprints={n: one.fingerprint for n, one in zip(names, bundles, strict=True)},
        num_cpus=1,
        **more,
    )
