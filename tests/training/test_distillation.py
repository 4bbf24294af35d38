"""Distillation in the real loop on two ranks gives the gradient of one plain batch."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from ray_sft.data import SampleStore
from ray_sft.models import load_model, load_processor
from ray_sft.objectives import PROJECTION, Distillation
from tests.training.worlds import gradients, make_loop, run_world

ROWS = {"uneven": [0, 3, 4, 9, 11, 12, 20], "lonely": [5]}
"""Of the lonely step's four micro-batches three have nothing to do."""
DISTILLATION = Distillation(temperature=3.0, alpha=0.5, hidden_weight=2.0, relation_weight=1.5)


def write_teacher(run, auto, folder: Path, *, times: int = 1, seed: int = 3) -> str:
    """Twice as deep as the student, and so many times as wide."""
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(run.model)
    config.num_hidden_layers = 4
    config.hidden_size *= times
    config.initializer_range = 0.1
    auto.from_config(config).save_pretrained(folder)
    return str(folder)


def plain_gradient(run, teacher_dirs, samples, *, distillation):
    processor = load_processor(run.model)
    model = load_model(str(run.model), run.task, processor=processor)
    teachers = [load_model(one, run.task, processor=processor).eval() for one in teacher_dirs]
    teacher = teachers[0]
    torch.manual_seed(run.job().train.seed)
    load_model(str(run.model), run.task, processor=processor)  # draws what that of a run draws
    distillation.prepare(model, teacher_width=teacher.config.hidden_size)
    loss_fn = distillation.wrap(
        partial(run.task.loss, model),
        model,
        teacher_loss_fn=distillation.joined([partial(run.task.loss, one) for one in teachers]),
        teacher=teacher,
        labels_tokens=run.task.labels_tokens,
    )
    examples = SampleStore(run.data / "train").examples(samples)
    batch = run.task.collate(examples, processor)
    loss = loss_fn({name: torch.from_numpy(array) for name, array in batch.items()})
    (loss.loss_sum / loss.num_targets).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.timeout(240)
def test_the_gradient_equals_that_of_one_plain_batch(tiny_decoder, tiny_encoder, tmp_path: Path):
    runs = {
        "decoder": (tiny_decoder, AutoModelForCausalLM, 1),
        "encoder": (tiny_encoder, AutoModelForSequenceClassification, 1),
        "narrow": (tiny_encoder, AutoModelForSequenceClassification, 2),
        "several": (tiny_encoder, AutoModelForSequenceClassification, 1),
    }
    cases, expected = {}, {}
    for kind, (run, auto, times) in runs.items():
        teachers = tuple(
            write_teacher(run, auto, tmp_path / f"teacher-{kind}-{seed}", times=times, seed=seed)
            for seed in ((3, 4) if kind == "several" else (3,))
        )
        for name, samples in ROWS.items():
            expected[kind, name] = plain_gradient(run, teachers, samples, distillation=DISTILLATION)
            bare = plain_gradient(
                run, teachers, samples, distillation=Distillation(alpha=0, hidden_weight=0)
            )
            change = max((expected[kind, name][key] - bare[key]).abs().max() for key in bare)
            assert change > 1e-2, "the teacher has to matter more than the tolerance"
            for stage in (2, 3):
                job = run.job(
                    zero_stage=stage,
                    gradient_accumulation=2,
                    packing=kind == "decoder",
                    max_gradient_norm=0.0,
                    weight_decay=0.0,
                    learning_rate=1.0,
                    warmup=0.0,
                )
                job = replace(job, teachers=teachers, distillation=DISTILLATION)
                cases[f"{kind}-{name}-zero{stage}"] = (job, samples)
    run_world(gradients, 2, cases, tmp_path)
    for case in cases:
        kind, name, _ = case.split("-")
        found = torch.load(tmp_path / f"{case}.pt")
        assert found.keys() == expected[kind, name].keys()
        assert any(PROJECTION in key for key in found) == (kind == "narrow")
        for parameter, gradient in expected[kind, name].items():
            error = (found[parameter] - gradient).abs().max().item()
            assert error < 1e-5, f"{case}: {parameter} differs by {error:.1e}"


def save_student(rank, job, out: Path) -> None:
    loop = make_loop(job, out / str(rank))
    loop.checkpoints.write_weights(out / "weights")


@pytest.mark.timeout(120)
def test_what_is_trained_beside_a_narrower_student_is_not_saved_with_it(
    tiny_encoder, tmp_path: Path
):
    auto = AutoModelForSequenceClassification
    teacher = write_teacher(tiny_encoder, auto, tmp_path / "teacher", times=2)
    job = replace(tiny_encoder.job(zero_stage=3), teachers=(teacher,), distillation=DISTILLATION)
    run_world(save_student, 2, job, tmp_path)
    before, after = (
        load_file(folder / "model.safetensors")
        for folder in (tiny_encoder.model, tmp_path / "weights")
    )
    assert after.keys() == before.keys()
    assert all(after[name].equal(before[name]) for name in before)
