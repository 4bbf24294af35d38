"""Learning without forgetting against the paper's formula."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from ray_sft.objectives import LearningWithoutForgetting
from ray_sft.tasks import Loss


def loss_of(logits):
    targets = torch.zeros(len(logits), dtype=torch.int64)
    loss_sum = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    return Loss(loss_sum, len(logits), logits, targets)


def logits(seed, rows=5, classes=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((rows, classes), generator=generator, dtype=torch.float64) * 3


def kept(former, own, *, num_known=0, **settings):
    keep = LearningWithoutForgetting(**settings)
    return keep.wrap(
        lambda _: loss_of(own), former_loss_fn=lambda _: loss_of(former * 1.0), num_known=num_known
    )({})


@pytest.mark.parametrize("num_known", [0, 3])
def test_the_term_is_that_of_the_paper_but_for_a_constant(num_known):
    """Eqs. 2 to 4: cross-entropy of known classes to the power 1/T; its minimum taken off."""
    former, own = logits(0), logits(1)
    found = kept(former, own, num_known=num_known, weight=0.7, temperature=2.0)
    known = num_known or 4
    wanted = softmax(former[:, :known].numpy() / 2, axis=1)
    said = log_softmax(own[:, :known].numpy() / 2, axis=1)
    cross = -(wanted * said).sum() + (wanted * np.log(wanted)).sum()
    expected = loss_of(own).loss_sum.item() + 0.7 * cross
    assert found.loss_sum.item() == pytest.approx(expected, rel=1e-9)


def test_the_same_answers_cost_nothing_whatever_new_classes_say():
    former, own = logits(0), logits(0)
    own[:, 3] += 5
    found = kept(former, own, num_known=3)
    assert found.loss_sum.item() == pytest.approx(loss_of(own).loss_sum.item())


def test_the_former_model_gets_no_gradient():
    former, own = logits(0).requires_grad_(), logits(1).requires_grad_()
    kept(former, own).loss_sum.backward()
    assert former.grad is None
    assert own.grad is not None


def test_without_targets_it_is_zero_and_attached():
    own = logits(1, rows=0).requires_grad_()
    found = kept(logits(0, rows=0), own)
    found.loss_sum.backward()
    assert found.loss_sum.item() == 0


def test_weight_zero_is_the_inner_function_itself():
    keep = LearningWithoutForgetting(weight=0.0)
    assert keep.wrap(loss_of, former_loss_fn=loss_of, num_known=0) is loss_of
