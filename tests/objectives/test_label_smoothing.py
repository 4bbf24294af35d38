"""Label smoothing agrees with PyTorch's own, and composes as its place in the list says."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from ray_sft.objectives import Fgm, LabelSmoothing
from ray_sft.objectives.label_smoothing import _uniform_excess
from ray_sft.tasks import Loss


def loss_of(logits, targets):
    loss_sum = cross_entropy(logits, targets, reduction="sum")
    return Loss(loss_sum, len(targets), logits, targets)


def smoothed(logits, targets, *, epsilon):
    objective = LabelSmoothing(epsilon=epsilon)
    return objective.wrap(lambda _: loss_of(logits, targets), torch.nn.Identity())({})


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return (torch.randn(9, 5, dtype=torch.float64) * 3).requires_grad_()


@pytest.fixture
def targets():
    return torch.tensor([0, 1, 2, 3, 4, 0, 0, 2, 1])


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.9])
def test_equals_the_label_smoothing_of_pytorch(logits, targets, epsilon):
    expected = cross_entropy(logits, targets, reduction="sum", label_smoothing=epsilon)
    found = smoothed(logits, targets, epsilon=epsilon).loss_sum
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    pairs = zip(
        torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits), strict=True
    )
    for one, two in pairs:
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_is_finite_where_the_model_is_certain():
    logits, targets = torch.tensor([[0.0, 1e4, -1e4]]), torch.tensor([1])
    expected = cross_entropy(logits, targets, reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(smoothed(logits, targets, epsilon=0.1).loss_sum, expected)


def test_masked_classes_get_no_share(logits, targets):
    """A row with fewer candidates than its batch costs what it costs alone."""
    masked = torch.cat([logits, torch.full((9, 3), -1e9, dtype=torch.float64)], dim=1)
    alone = smoothed(logits, targets, epsilon=0.2).loss_sum
    padded = smoothed(masked, targets, epsilon=0.2).loss_sum
    torch.testing.assert_close(padded, alone, rtol=1e-12, atol=0)


def test_without_targets_its_term_is_zero():
    logits = torch.zeros(0, 5, requires_grad=True)
    excess = _uniform_excess(logits, torch.zeros(0, dtype=torch.int64))
    assert excess.item() == 0.0
    assert excess.requires_grad


def test_it_adds_to_what_it_wraps(logits, targets):
    """Another term in the inner loss stays as it is."""
    plain = loss_of(logits, targets)
    inner = Loss(plain.loss_sum + 7.0, plain.num_targets, plain.logits, plain.targets)
    found = LabelSmoothing(epsilon=0.3).wrap(lambda _: inner, torch.nn.Identity())({})
    expected = cross_entropy(logits, targets, reduction="sum", label_smoothing=0.3) + 7.0
    torch.testing.assert_close(found.loss_sum, expected, rtol=1e-12, atol=0)


class Embedded(torch.nn.Module):
    """Logits that are a product of the embedded input."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embedding = torch.nn.Embedding(7, 4)
        self.linear = torch.nn.Linear(4, 5)

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids):
        return (self.linear(self.embedding(input_ids).mean(dim=1)),)


def test_its_place_decides_which_passes_are_smoothed():
    model, labels = Embedded(), torch.tensor([2, 0])
    batch = {"input_ids": torch.tensor([[1, 2, 3], [4, 5, 6]])}
    fgm, smoothing = Fgm(epsilon=0.5), LabelSmoothing(epsilon=0.4)

    def plain(inputs):
        return loss_of(model(inputs["input_ids"])[0], labels)

    first = fgm.wrap(smoothing.wrap(plain, model), model)(batch)
    last = smoothing.wrap(fgm.wrap(plain, model), model)(batch)
    without = fgm.wrap(plain, model)(batch)
    excess = _uniform_excess(without.logits, labels)
    torch.testing.assert_close(last.loss_sum, without.loss_sum + 0.4 * excess)
    assert abs(first.loss_sum - last.loss_sum).item() > 1e-2
