"""Distillation in a chain; a plain loop in this process stands in for Ray Train's."""

import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from ray_sft.bundle import Bundle
from ray_sft.compression import Compress, Distil, DropLayers, PassContext, Retrain, compress
from ray_sft.core import CompressionError
from ray_sft.inference import Predictor, check_samples
from ray_sft.models import load_model, train_tokenizer
from tests.compression.conftest import apply


def fit(model, loss_fn, batch, *, steps, learning_rate):
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_fn(batch)
        (loss.loss_sum / loss.num_targets).backward()
        optimizer.step()


def tensors(task, examples, processor):
    batch = task.collate(examples, processor)
    return {name: torch.from_numpy(array) for name, array in batch.items()}


@pytest.fixture(scope="module")
def teacher(make_encoder, classifier, intents, processor) -> Bundle:
    """A classifier of four layers that knows its rows."""
    batch = tensors(classifier.task, intents["intent"], processor)

    def learn(model):
        loss_fn = partial(classifier.task.loss, model)
        fit(model, loss_fn, batch, steps=150, learning_rate=2e-3)

    return make_encoder(edit=learn)


@pytest.fixture
def retrain(teacher, intents, processor, tmp_path) -> Retrain:
    def run(student, distillation, *, epochs, steps, learning_rate, others) -> Path:
        del epochs
        task = student.task
        models = [
            load_model(str(bundle.model_dir), task, processor=processor).eval()
            for bundle in (student, teacher, *others)
        ]
        loss_fn = distillation.wrap(
            partial(task.loss, models[0]),
            models[0],
            teacher_loss_fn=distillation.joined([partial(task.loss, one) for one in models[1:]]),
            teacher=models[1],
            labels_tokens=task.labels_tokens,
        )
        batch = tensors(task, intents["intent"], processor)
        fit(models[0], loss_fn, batch, steps=steps, learning_rate=learning_rate)
        models[0].save_pretrained(tmp_path / f"weights-{student.manifest.variant}")
        return tmp_path / f"weights-{student.manifest.variant}"

    return run


def run(passes, teacher, intents, out_dir, *, retrain, **options):
    config = Compress(passes=passes, min_speedup=0.0, **options)
    return compress(
        config,
        teacher,
        examples=intents,
        out_dir=out_dir,
        num_threads=1,
        progress=lambda _: None,
        context=PassContext(intents, retrain),
    )


CHAIN = (
    {"kind": "drop_layers", "keep": 2},
    {"kind": "distil", "steps": 40, "learning_rate": 2e-3},
    {"kind": "prune_feed_forward", "ratio": 0.5},
    {"kind": "distil", "steps": 40, "learning_rate": 2e-3},
    {"kind": "export_onnx"},
    {"kind": "quantize_int8"},
)


def test_a_chain_shrinks_trains_exports_and_quantizes(teacher, intents, retrain, tmp_path):
    """The budget holds only for what is trained again: a half model alone misses it."""
    reports = run(CHAIN, teacher, intents, tmp_path / "out", retrain=retrain, budget={"loss": 0.1})
    assert [report.variant for report in reports] == [
        "trained",
        "drop_layers",
        "distil",
        "prune_feed_forward",
        "distil_2",
        "onnx",
        "int8",
    ]
    losses = [report.metrics["intent/loss"] for report in reports]
    assert losses[0] < 0.5, "the teacher has to know something"
    assert losses[1] > losses[0] + 0.1, "two of four layers have to be missed"
    assert max(losses[2], losses[4]) < losses[0] + 0.1
    sizes = [report.num_bytes for report in reports]
    assert sizes[0] > sizes[1] > sizes[3] > sizes[6]
    assert sizes[1] == pytest.approx(sizes[2], rel=1e-3)
    for former, report in pairwise(reports):
        bundle = Bundle.open(report.path)
        assert bundle.path.name == bundle.manifest.variant == report.variant
        assert bundle.manifest.parent == Bundle.open(former.path).fingerprint
        assert bundle.manifest.properties["precision"] in ("fp32", "int8")
        assert report.seconds > 0
        assert report.speedup_over_parent > 0
        check_samples(Predictor(bundle))
    assert reports[5].parity > 1e-3, "an exact pass equals its parent, not the teacher"


def test_a_student_that_is_not_trained_again_misses_the_budget(teacher, intents, retrain, tmp_path):
    with pytest.raises(CompressionError, match=r"drop_layers: intent/loss went from"):
        run(CHAIN[:1], teacher, intents, tmp_path / "out", retrain=retrain, budget={"loss": 0.1})
    assert list((tmp_path / "out").iterdir()) == []


def test_training_that_does_not_recover_misses_the_budget(teacher, intents, retrain, tmp_path):
    passes = (CHAIN[0], CHAIN[1] | {"steps": 1, "learning_rate": 1e-9}, CHAIN[2], CHAIN[3])
    with pytest.raises(CompressionError, match=r"distil: intent/loss went from"):
        run(passes, teacher, intents, tmp_path / "out", retrain=retrain, budget={"loss": 0.1})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["drop_layers"]


def test_the_pass_asks_for_its_own_settings(teacher, retrain, tmp_path):
    asked = {}

    def watched(student, distillation, **options):
        asked.update(options, distillation=distillation)
        return retrain(student, distillation, **options)

    step = Distil(epochs=2, steps=1, learning_rate=1e-3, temperature=4.0, alpha=0.9)
    student, _ = apply(DropLayers(keep=1), teacher, tmp_path / "student")
    _, properties = apply(step, student, tmp_path / "distilled", PassContext(retrain=watched))
    assert asked == {
        "epochs": 2,
        "steps": 1,
        "learning_rate": 1e-3,
        "others": [],
        "distillation": step.distillation,
    }
    assert step.distillation.temperature == properties["temperature"] == 4.0
    assert step.distillation.alpha == 0.9


def test_another_model_is_taught_whatever_its_width(teacher, intents, retrain, processor, tmp_path):
    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(teacher.model_dir)
    config.hidden_size, config.num_hidden_layers, config.intermediate_size = 32, 2, 48
    AutoModel.from_config(config).save_pretrained(tmp_path / "narrow")
    processor.save_pretrained(tmp_path / "narrow")
    distil = {"kind": "distil", "student": str(tmp_path / "narrow")}
    distil |= {"steps": 120, "learning_rate": 5e-3, "hidden_weight": 0}
    passes = [distil, {"kind": "export_onnx"}]
    options = {"retrain": retrain, "budget": {"loss": 0.3}}
    before, taught, exported = run(passes, teacher, intents, tmp_path / "out", **options)
    assert taught.num_bytes < 0.5 * before.num_bytes
    assert exported.metrics == pytest.approx(taught.metrics, abs=1e-4)
    bundle = Bundle.open(taught.path)
    assert bundle.manifest.properties["student"] == str(tmp_path / "narrow")
    assert bundle.manifest.tasks == teacher.manifest.tasks
    check_samples(Predictor(bundle))


def test_a_student_that_cannot_be_taught_is_refused(teacher, intents, retrain, tmp_path):
    AutoModel.from_config(AutoConfig.from_pretrained(teacher.model_dir)).save_pretrained(tmp_path)
    train_tokenizer(["other words"] * 5, vocab_size=300).save_pretrained(tmp_path)
    step = {"kind": "distil", "student": str(tmp_path)}
    with pytest.raises(CompressionError, match=r"has other tokens .* Take one of the same"):
        run([step], teacher, intents, tmp_path / "out", retrain=retrain)
    with pytest.raises(CompressionError, match="'nowhere/at-all'"):
        run([step | {"student": "nowhere/at-all"}], teacher, intents, tmp_path, retrain=retrain)
    passes = [{"kind": "drop_layers", "keep": 2}, step]
    with pytest.raises(CompressionError, match="what drop_layers has made would be lost"):
        run(passes, teacher, intents, tmp_path / "out", retrain=retrain)


def test_several_teachers_teach_together(teacher, intents, retrain, tmp_path):
    second, _ = apply(DropLayers(keep=3), teacher, tmp_path / "second")
    asked = []

    def watched(student, distillation, **options):
        asked.extend(one.path for one in options["others"])
        return retrain(student, distillation, **options)

    passes = [CHAIN[0], CHAIN[1] | {"teachers": [str(second.path)]}]
    *_, taught = run(passes, teacher, intents, tmp_path / "out", retrain=watched)
    assert asked == [second.path]
    assert Bundle.open(taught.path).manifest.properties["teachers"] == [str(second.path)]


def test_a_teacher_of_other_labels_is_refused(teacher, classifier, intents, retrain, tmp_path):
    labels = tuple(reversed(classifier.task.labels))
    task = classifier.task.model_copy(update={"labels": labels})
    other = tmp_path / "other"
    shutil.copytree(classifier.path, other)
    manifest = classifier.manifest.model_copy(update={"tasks": {"intent": task}})
    (other / "manifest.json").write_text(manifest.model_dump_json())
    passes = [CHAIN[0], CHAIN[1] | {"teachers": [str(other)]}]
    with pytest.raises(CompressionError, match="has other tasks or labels"):
        run(passes, teacher, intents, tmp_path / "out", retrain=retrain)
    passes[1] |= {"teachers": [str(tmp_path / "nowhere")]}
    with pytest.raises(CompressionError, match="nowhere"):
        run(passes, teacher, intents, tmp_path / "out", retrain=retrain)
