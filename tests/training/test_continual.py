"""Replay, EWC and learning without forgetting in the real loop on two ranks."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification

from ray_sft.data import SampleStore
from ray_sft.models import load_model, load_processor
from ray_sft.objectives import Ewc, LearningWithoutForgetting
from ray_sft.training import Continual, Former
from tests.objectives.zero_world import drawn_for, tensors
from tests.training.worlds import gradients, records, run_world, train, write_shards

NEW, OLD = [0, 3, 4, 9, 11, 12, 20], [23, 25, 28]
"""Samples of one step: those behind the 23 new rows are earlier ones."""
EWC, KEEP = Ewc(weight=2.0), LearningWithoutForgetting(weight=0.8)


@pytest.fixture
def former(tiny_encoder, tmp_path) -> Former:
    """An earlier training on rows of its own, and made-up Fisher information."""
    earlier = [{"text": f"old address {'card ' * n}", "label": "early"} for n in range(1, 7)]
    write_shards(tiny_encoder.task, tiny_encoder.model, earlier, tmp_path / "earlier" / "train")
    model = AutoModelForSequenceClassification.from_pretrained(tiny_encoder.model)
    fisher = {name: drawn_for(name, p.shape).square() for name, p in model.named_parameters()}
    save_file(fisher, tmp_path / "fisher.safetensors")
    return Former(
        Continual(replay=0.5, ewc=EWC, learning_without_forgetting=KEEP),
        {"it": (str(tmp_path / "earlier" / "train"),)},
        {"it": 1},
        str(tmp_path / "fisher.safetensors"),
    )


def plain_gradient(run, former):
    """One padded batch of new and earlier rows; weights are where they began, so EWC is still."""
    processor = load_processor(run.model)
    model, before = (load_model(str(run.model), run.task, processor=processor) for _ in range(2))
    loss_fn = former.settings.learning_without_forgetting.wrap(
        partial(run.task.loss, model),
        former_loss_fn=partial(run.task.loss, before.eval()),
        num_known=former.num_known["it"],
    )
    earlier = SampleStore(Path(former.data_dirs["it"][0]))
    examples = SampleStore(run.data / "train").examples(NEW)
    examples += earlier.examples([sample - len(run.rows) for sample in OLD])
    loss = loss_fn(tensors(run.task.collate(examples, processor)))
    (loss.loss_sum / loss.num_targets).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.timeout(240)
def test_the_gradient_of_new_and_earlier_rows_is_that_of_one_plain_batch(
    tiny_encoder, former, tmp_path: Path
):
    expected = plain_gradient(tiny_encoder, former)
    cases = {}
    for stage in (0, 3):
        job = tiny_encoder.job(
            zero_stage=stage,
            gradient_accumulation=2,
            max_gradient_norm=0.0,
            weight_decay=0.0,
            learning_rate=1.0,
            warmup=0.0,
        )
        cases[f"zero{stage}"] = (replace(job, former=former), NEW + OLD)
    run_world(gradients, 2, cases, tmp_path)
    for case in cases:
        found = torch.load(tmp_path / f"{case}.pt")
        for parameter, gradient in expected.items():
            error = (found[parameter] - gradient).abs().max().item()
            assert error < 1e-5, f"{case}: {parameter} differs by {error:.1e}"


def moved(folder: Path, start: Path, step: int) -> float:
    """The length of the way from the first weights to those of a finished run."""
    load = AutoModelForSequenceClassification.from_pretrained
    before = load(start).state_dict()
    after = load(folder / f"step-{step}" / "weights").state_dict()
    return sum((after[name] - before[name]).square().sum().item() for name in before) ** 0.5


@pytest.mark.timeout(240)
def test_held_weights_stay_nearer_and_replay_makes_epochs_longer(
    tiny_encoder, former, tmp_path: Path
):
    jobs = {
        "plain": Former(Continual(), {}, {}),
        "ewc": replace(former, settings=Continual(ewc=Ewc(weight=30.0))),
        "replay": replace(former, settings=Continual(replay=1.0)),
    }
    steps, ways = {}, {}
    for name, one in jobs.items():
        job = replace(tiny_encoder.job(learning_rate=1e-2, zero_stage=2), former=one)
        run_world(train, 2, job, tmp_path / name)
        steps[name] = records(tmp_path / name, "step")
        ways[name] = moved(tmp_path / name, tiny_encoder.model, len(steps[name]))
    assert ways["ewc"] < 0.8 * ways["plain"], ways
    tokens = {name: sum(step["num_tokens"] for step in found) for name, found in steps.items()}
    assert tokens["ewc"] == tokens["plain"] < tokens["replay"]


@pytest.mark.timeout(240)
def test_a_resumed_run_ends_as_the_undisturbed_one(tiny_encoder, former, tmp_path: Path):
    """The anchors are the weights that the run began with, not those of the checkpoint."""
    job = replace(tiny_encoder.job(zero_stage=2, checkpoint_every=2), former=former)
    run_world(train, 2, job, tmp_path / "whole")
    run_world(train, 2, job, tmp_path / "resumed", tmp_path / "whole" / "step-2")
    whole, resumed = (records(tmp_path / name, "step") for name in ("whole", "resumed"))
    assert [step["step"] for step in resumed] == [step["step"] for step in whole[2:]]
    assert [step["loss"] for step in resumed] == [step["loss"] for step in whole[2:]]
