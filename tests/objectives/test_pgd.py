"""PGD agrees with its equation computed the long way round."""

import pytest
import torch

from ray_sft.objectives import Fgm, Pgd
from ray_sft.objectives.embedded_input import ascended
from tests.factories import TASKS, sequence_classification
from tests.objectives.embedded import (
    STOCK,
    Inputs,
    batch_of,
    embedded_inputs,
    lengths_of,
    plain_loss,
)

EPSILON, STEP = 0.5, 0.3


@pytest.mark.parametrize("kind", STOCK, ids=lambda kind: kind.__name__)
def test_equals_projected_steps_computed_from_embedded_inputs(kind):
    case = TASKS[kind]()
    batch = batch_of(case)
    start = case.model.get_input_embeddings()(batch["input_ids"]).detach()
    delta = torch.zeros_like(start)
    for _ in range(3):
        moved = (start + delta).requires_grad_()
        loss = case.task.loss(Inputs(case.model, moved), batch).loss_sum
        (gradient,) = torch.autograd.grad(loss, moved)
        delta = delta + STEP * gradient / lengths_of(gradient)
        delta = delta * (EPSILON / lengths_of(delta)).clamp(max=1)
    clean = case.task.loss(Inputs(case.model, start), batch).loss_sum
    worst = case.task.loss(Inputs(case.model, start + delta), batch).loss_sum
    objective = Pgd(epsilon=EPSILON, step_size=STEP, steps=3, weight=0.6)
    found = objective.wrap(plain_loss(case), case.model)(batch)
    torch.testing.assert_close(found.loss_sum, clean + 0.6 * worst, rtol=1e-5, atol=0)
    assert worst > 1.01 * clean


def test_one_step_of_the_whole_radius_is_fgm():
    case = sequence_classification()
    batch = batch_of(case)
    one = Pgd(epsilon=EPSILON, step_size=EPSILON, steps=1).wrap(plain_loss(case), case.model)
    two = Fgm(epsilon=EPSILON).wrap(plain_loss(case), case.model)
    assert torch.equal(one(batch).loss_sum, two(batch).loss_sum)


def test_more_steps_find_a_worse_input_within_the_same_ball():
    case = sequence_classification()
    batch, losses = batch_of(case), []
    for steps in (1, 2, 8):
        run = Pgd(epsilon=2.0, step_size=1.0, steps=steps).wrap(plain_loss(case), case.model)
        *_, clean, moved = embedded_inputs(case.model, lambda run=run: losses.append(run(batch)))
        assert float(lengths_of(moved - clean).max()) <= 2.0 * (1 + 1e-4)
    first, second, last = (loss.loss_sum.item() for loss in losses)
    assert first < second < last


def test_steps_are_cut_to_the_ball_in_each_sequence():
    deltas = [torch.tensor([[[3.0, 0.0], [0.0, 0.0], [0.0, 0.1]]])]
    gradients = [torch.tensor([[[0.0, 1.0], [0.0, 0.0], [0.0, 5.0]]])]
    positions = torch.tensor([[0, 1, 0]])
    (moved,) = ascended(deltas, gradients, positions, step_size=4.0, epsilon=2.5)
    expected = torch.tensor([[[1.5, 2.0], [0.0, 0.0], [0.0, 2.5]]])
    torch.testing.assert_close(moved, expected)
