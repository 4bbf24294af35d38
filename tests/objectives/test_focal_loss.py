"""Focal loss agrees with its equation, and stays finite where it is certain."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from ray_sft.objectives import FocalLoss
from ray_sft.tasks import Loss


def focal(logits, targets, *, gamma):
    loss_sum = cross_entropy(logits, targets, reduction="sum")
    loss = Loss(loss_sum, len(targets), logits, targets)
    return FocalLoss(gamma=gamma).wrap(lambda _: loss, torch.nn.Identity())({}).loss_sum


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_equals_equation_4_computed_in_numpy(gamma):
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(9, 5)) * 3, rng.integers(5, size=9)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    right = p[np.arange(9), targets]
    expected = -((1 - right) ** gamma * np.log(right)).sum()
    found = focal(torch.from_numpy(logits), torch.from_numpy(targets), gamma=gamma)
    assert found.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_its_gradient_equals_finite_differences(gamma):
    torch.manual_seed(0)
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 2, 1, 1])
    assert torch.autograd.gradcheck(lambda z: focal(z, targets, gamma=gamma), logits)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("logit", [1e4, -1e4, 20.0])
def test_is_finite_where_the_model_is_certain(gamma, logit):
    logits = torch.tensor([[0.0, logit]], requires_grad=True)
    loss = focal(logits, torch.tensor([1]), gamma=gamma)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(gradient).all())
    if logit < 0:
        assert loss.item() == pytest.approx(1e4)


def test_a_target_that_is_right_counts_less_than_a_wrong_one():
    easy, hard = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    target = torch.tensor([0])
    shares = [
        focal(z, target, gamma=2.0) / cross_entropy(z, target, reduction="sum")
        for z in (easy, hard)
    ]
    assert shares[0] < 0.01
    assert shares[1] > 0.9
