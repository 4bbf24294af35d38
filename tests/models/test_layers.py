"""Layers that keep their inputs alone."""

import pytest
import torch

from ray_sft.core import ConfigError
from ray_sft.models import checkpoint_activations, layers_of
from tests.factories import TASKS, CausalLanguageModel, Embedding, SequenceClassification
from tests.objectives.zero_world import tensors

KINDS = (SequenceClassification, CausalLanguageModel, Embedding)


def gradients(case, module, *, checkpointed):
    """Of all parameters; and how often the first layer has run."""
    if checkpointed:
        checkpoint_activations(module)
    runs = []
    layer = layers_of(module)[0]
    handle = next(layer.children()).register_forward_hook(lambda *_: runs.append(1))
    examples = case.task.encode(case.rows, case.processor)
    batch = tensors(case.task.collate(examples, case.processor))
    module.train()
    torch.manual_seed(0)
    module.zero_grad()
    case.task.loss(case.model, batch).loss_sum.backward()
    handle.remove()
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}, len(
        runs
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_layer_runs_again_and_gradients_stay(kind):
    case = TASKS[kind]()
    module = getattr(case.model, "module", case.model)
    plain, once = gradients(case, module, checkpointed=False)
    again, twice = gradients(case, module, checkpointed=True)
    assert (once, twice) == (1, 2)
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-5)


def test_an_architecture_without_such_layers_is_refused():
    with pytest.raises(ConfigError, match="Linear cannot run its layers again"):
        checkpoint_activations(torch.nn.Linear(2, 2))
