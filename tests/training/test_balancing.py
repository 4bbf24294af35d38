"""Weights of tasks that follow the training: against the papers, and on two ranks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_sft.core import ConfigError, validate
from ray_sft.data import Mixture, SampleStore
from ray_sft.models import HeadView, load_processor, load_tasks
from ray_sft.objectives import Fgm
from ray_sft.recipe import Recipe
from ray_sft.training import Train
from ray_sft.training.balancing import GradNorm, Uncertainty
from ray_sft.training.job import Job
from tests.objectives.zero_world import tensors
from tests.training.conftest import TWO_TASKS
from tests.training.worlds import make_loop, records, run_world, train

SAMPLES = [0, 3, 4, 9, 11, 25, 27, 30]
"""Ids below 23 are of the first task, the others of the second."""
NAMES = tuple(TWO_TASKS)


def test_uncertainty_descends_on_the_loss_of_the_paper():
    """Eq. 10 in s = log sigma^2, differentiated by torch."""
    losses = {"a": 2.0, "b": 0.1}
    balance = Uncertainty(learning_rate=0.1)
    state = balance.start(["a", "b"])
    for _ in range(3):
        s = torch.tensor([state["log_variance"][name] for name in losses], requires_grad=True)
        loss = (torch.exp(-s) * torch.tensor(list(losses.values())) + s / 2).sum()
        (gradient,) = torch.autograd.grad(loss, s)
        expected = dict(zip(losses, (s - 0.1 * gradient).tolist(), strict=True))
        state = balance.after_step(state, losses, {})
        assert state["log_variance"] == pytest.approx(expected)


def test_uncertainty_rests_where_a_task_counts_1_over_2_l():
    balance, losses = Uncertainty(learning_rate=0.2), {"a": 2.0, "b": 0.1}
    state = balance.start(["a", "b"])
    for _ in range(500):
        state = balance.after_step(state, losses, {})
    assert balance.weights(state) == pytest.approx({"a": 0.25, "b": 5.0}, rel=1e-3)


def test_gradnorm_takes_the_step_of_the_paper():
    balance = GradNorm(alpha=1.5, learning_rate=0.01)
    state = {"weight": {"a": 1.2, "b": 0.8}, "first_loss": {"a": 4.0, "b": 1.0}}
    losses, norms = {"a": 2.0, "b": 0.9}, {"a": 3.0, "b": 0.5}
    w = torch.tensor([1.2, 0.8], requires_grad=True)
    n = torch.tensor([3.0, 0.5])
    r = torch.tensor([2.0 / 4.0, 0.9 / 1.0])
    target = ((w * n).mean() * (r / r.mean()) ** 1.5).detach()
    (slope,) = torch.autograd.grad((w * n - target).abs().sum(), w)
    moved = (w - 0.01 * slope).detach()
    expected = (moved * 2 / moved.sum()).tolist()
    found = balance.weights(balance.after_step(state, losses, norms))
    assert found == pytest.approx(dict(zip("ab", expected, strict=True)))


def test_gradnorm_makes_gradients_alike_where_tasks_learn_alike():
    balance, norms = GradNorm(alpha=0.0, learning_rate=0.01), {"a": 4.0, "b": 1.0}
    state = balance.start(["a", "b"])
    for _ in range(500):
        state = balance.after_step(state, {"a": 1.0, "b": 1.0}, norms)
    weights = balance.weights(state)
    assert weights == pytest.approx({"a": 0.4, "b": 1.6}, abs=0.05)
    assert sum(weights.values()) == pytest.approx(2)


def job(folder: Path, **settings) -> Job:
    defaults = {"precision": "fp32", "epochs": 3, "tokens_per_step": 60, "device": "cpu"}
    data = {name: str(folder / name) for name in TWO_TASKS}
    model = str(folder / "model")
    return Job(TWO_TASKS, Train(**(defaults | settings)), model, model, data, 1, None)


def measured_lengths(rank: int, jobs: dict[str, Job], out: Path) -> None:
    """Writes what the hooks have seen of one step, by job."""
    for name, one in jobs.items():
        loop = make_loop(one, out / f"{name}-{rank}")
        seen = []
        take = loop.weights._shared.lengths
        loop.weights._shared.lengths = lambda take=take, seen=seen: seen.append(take()) or seen[-1]
        loop._step(0, np.asarray(SAMPLES))
        if rank == 0:
            (out / f"{name}.json").write_text(json.dumps(seen[0]))
        loop.engine._engine.destroy()


def plain_lengths(folder: Path) -> dict[str, float]:
    """Of the gradient of each task's mean loss at the bias of the last norm, in plain PyTorch."""
    processor = load_processor(folder / "model")
    model = load_tasks(str(folder / "model"), TWO_TASKS, processor=processor)
    mixture = Mixture({name: SampleStore(folder / name / "train") for name in TWO_TASKS})
    bias = model.backbone.encoder.layer[-1].output.LayerNorm.bias
    found = {}
    for name, ids in mixture.by_task(np.asarray(SAMPLES)).items():
        task = TWO_TASKS[name]
        batch = task.collate(mixture.examples(ids), processor)
        loss = task.loss(HeadView(model, name), tensors(batch))
        (gradient,) = torch.autograd.grad(loss.loss_sum / loss.num_targets, bias)
        found[name] = gradient.norm().item()
    return found


@pytest.mark.timeout(240)
def test_the_gradients_are_those_at_the_last_shared_bias(headed, tmp_path: Path):
    """Under every stage, and whatever an objective walks besides; weights scale them."""
    balance, weights = {"kind": "grad_norm"}, {"when": 1.0, "what": 0.25}
    jobs = {
        f"zero{stage}": job(
            headed,
            zero_stage=stage,
            gradient_accumulation=2,
            balance=balance,
            task_weights=weights,
        )
        for stage in (0, 1, 2, 3)
    }
    quiet = Fgm(epsilon=0.3, weight=1e-9)  # looks for the worst input, which counts nothing
    jobs["fgm"] = replace(jobs["zero2"], objectives=(quiet,))
    run_world(measured_lengths, 2, jobs, tmp_path)
    expected = {name: weights[name] * one for name, one in plain_lengths(headed).items()}
    for name in jobs:
        found = json.loads((tmp_path / f"{name}.json").read_text())
        assert found == pytest.approx(expected, rel=1e-4), name


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["uncertainty", "grad_norm"])
def test_weights_move_are_reported_and_survive_a_resume(headed, tmp_path: Path, kind):
    balance = {"kind": kind, "learning_rate": 0.2}
    one = job(headed, balance=balance, checkpoint_every=3, learning_rate=3e-3)
    run_world(train, 2, one, tmp_path / "whole")
    run_world(train, 2, one, tmp_path / "resumed", tmp_path / "whole" / "step-3")
    whole, resumed = (records(tmp_path / name, "step") for name in ("whole", "resumed"))
    figures = ("loss", "weight/when", "weight/what")
    last = [[step[figure] for figure in figures] for step in whole[3:]]
    assert [[step[figure] for figure in figures] for step in resumed] == last
    first = whole[0]
    assert [first[f"weight/{name}"] for name in NAMES] == [1.0, 1.0]
    assert any(abs(whole[-1][f"weight/{name}"] - 1) > 0.02 for name in NAMES)
    for step in whole:
        weighted = sum(step[f"weight/{name}"] * step[f"loss/{name}"] for name in NAMES)
        assert step["loss"] == pytest.approx(weighted)


def test_one_task_has_nothing_to_balance():
    rows = {"source": "csv", "path": "rows.csv"}
    tree = {
        "name": "mine",
        "tasks": {"it": {"kind": "sequence_classification"}},
        "data": {"it": {"train": rows, "eval": rows}},
        "train": {"balance": {"kind": "uncertainty"}},
    }
    with pytest.raises(ConfigError, match=r"train\.balance: there is only one task"):
        validate(Recipe, tree, what="recipe")
