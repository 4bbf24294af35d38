"""FreeLB agrees with its algorithm computed the long way round."""

import pytest
import torch

from ray_sft.objectives import FreeLb
from tests.factories import TASKS, sequence_classification
from tests.objectives.embedded import STOCK, Inputs, batch_of, lengths_of, plain_loss

EPSILON, STEP = 0.5, 0.3


@pytest.mark.parametrize("kind", STOCK, ids=lambda kind: kind.__name__)
def test_gradients_are_averaged_over_the_steps_as_algorithm_1_does(kind):
    """Line by line: g_t = g_{t-1} + gradient / K, and the ascent from the same backward pass."""
    case = TASKS[kind]()
    batch = batch_of(case)
    named = dict(case.model.named_parameters())
    layers = {n: p for n, p in named.items() if p.requires_grad and "embed" not in n}
    start = case.model.get_input_embeddings()(batch["input_ids"]).detach()
    delta = torch.zeros_like(start)
    expected = {name: torch.zeros_like(parameter) for name, parameter in layers.items()}
    for _ in range(3):
        moved = (start + delta).requires_grad_()
        loss = case.task.loss(Inputs(case.model, moved), batch).loss_sum
        gradient, *found = torch.autograd.grad(
            loss, [moved, *layers.values()], materialize_grads=True
        )
        for name, part in zip(layers, found, strict=True):
            expected[name] += part / 3
        delta = delta + STEP * gradient / lengths_of(gradient)
        delta = delta * (EPSILON / lengths_of(delta)).clamp(max=1)
    objective = FreeLb(epsilon=EPSILON, step_size=STEP, steps=2)
    loss = objective.wrap(plain_loss(case), case.model)(batch)
    found = torch.autograd.grad(loss.loss_sum, list(layers.values()), materialize_grads=True)
    scale = max(float(part.abs().max()) for part in expected.values())
    for name, part in zip(layers, found, strict=True):
        if name.startswith(("lm_head", "cls")):  # shared with the embedding, which is not moved
            continue
        torch.testing.assert_close(part, expected[name], rtol=1e-4, atol=1e-5 * scale, msg=name)


def test_all_passes_drop_the_same_units_and_the_next_draw_is_that_of_one_pass():
    case = sequence_classification()
    model, batch = case.model.train(), batch_of(case)
    torch.manual_seed(3)
    plain = plain_loss(case)(batch)
    following = torch.rand(4)
    torch.manual_seed(3)
    tiny = FreeLb(epsilon=1e-6, step_size=1e-6).wrap(plain_loss(case), model)(batch)
    assert torch.equal(torch.rand(4), following)
    assert torch.equal(tiny.logits, plain.logits)
    torch.testing.assert_close(tiny.loss_sum, plain.loss_sum, rtol=1e-4, atol=0)
