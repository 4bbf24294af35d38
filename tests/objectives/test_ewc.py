"""EWC against the paper's formula, and what it leaves alone."""

import pytest
import torch

from ray_sft.core import ConfigError
from ray_sft.objectives import Ewc, RDrop
from tests.factories import TASKS, SequenceClassification
from tests.objectives.shared_dropout import share_dropout
from tests.objectives.zero_world import drawn_for, tensors


@pytest.fixture
def case():
    return TASKS[SequenceClassification]()


def batch_of(case, rows=slice(None)):
    examples = case.task.encode(case.rows, case.processor)[rows]
    return tensors(case.task.collate(examples, case.processor))


def held_to(module):
    """Anchors near the weights, and what each counts; the embeddings are free."""
    found = {n: p.detach() for n, p in module.named_parameters() if "embeddings" not in n}
    anchors = {name: value + 0.1 * drawn_for(name, value.shape) for name, value in found.items()}
    fisher = {
        name: drawn_for(f"fisher {name}", value.shape).square() for name, value in found.items()
    }
    return anchors, fisher


def penalty(module, anchors, fisher, weight):
    """Eq. 3 of the paper, written out."""
    own = dict(module.named_parameters())
    return sum(
        weight / 2 * (fisher[name] * (own[name] - anchors[name]) ** 2).sum() for name in fisher
    )


def test_each_target_has_the_penalty_of_the_paper(case):
    module = case.model.eval()
    anchors, fisher = held_to(module)
    batch = batch_of(case)
    bare = case.task.loss(module, batch)
    held = Ewc(weight=3.0).wrap(
        lambda given: case.task.loss(module, given), module, anchors=anchors, fisher=fisher
    )(batch)
    expected = bare.loss_sum + bare.num_targets * penalty(module, anchors, fisher, 3.0)
    assert held.loss_sum.item() == pytest.approx(expected.item(), rel=1e-5)
    found = torch.autograd.grad(held.loss_sum, list(module.parameters()))
    wanted = torch.autograd.grad(expected, list(module.parameters()))
    for (name, _), one, two in zip(module.named_parameters(), found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5, msg=name)


def test_objectives_inside_do_not_multiply_it(case):
    module = share_dropout(case.model)
    anchors, fisher = held_to(module)
    batch = batch_of(case)
    twice = RDrop(alpha=0.5).wrap(lambda given: case.task.loss(module, given), module)
    torch.manual_seed(1)
    inner = twice(batch)
    torch.manual_seed(1)
    held = Ewc().wrap(twice, module, anchors=anchors, fisher=fisher)(batch)
    added = (held.loss_sum - inner.loss_sum).item()
    expected = inner.num_targets * penalty(module, anchors, fisher, 1.0).item()
    assert added == pytest.approx(expected, rel=1e-4)


def test_without_targets_it_adds_nothing(case):
    module = case.model.eval()
    anchors, fisher = held_to(module)
    batch = batch_of(case)
    batch["labels"] = torch.full_like(batch["labels"], -100)
    held = Ewc().wrap(
        lambda given: case.task.loss(module, given), module, anchors=anchors, fisher=fisher
    )(batch)
    held.loss_sum.backward()
    assert held.loss_sum.item() == 0
    assert all(not p.grad.any() for p in module.parameters() if p.grad is not None)


def test_weight_zero_is_the_inner_function_itself(case):
    loss_fn = case.task.loss
    assert Ewc(weight=0.0).wrap(loss_fn, case.model, anchors={}, fisher={}) is loss_fn


def test_a_weight_whose_module_does_not_run_is_refused(case):
    module = case.model.eval()
    module.add_module("idle", torch.nn.Linear(2, 2))
    anchors = {"idle.weight": torch.zeros(2, 2)}
    held = Ewc().wrap(
        lambda given: case.task.loss(module, given), module, anchors=anchors, fisher=anchors
    )
    with pytest.raises(ConfigError, match=r"cannot hold 'idle\.weight'"):
        held(batch_of(case))
