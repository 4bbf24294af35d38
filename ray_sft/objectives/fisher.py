"""Fisher information: how much the answers of a model depend on each of its weights.

Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks",
arXiv:1612.00796, section 2.1: the diagonal of the Fisher information says how far a weight may
move before what was learned is lost. It is the mean, over the data and over the *model's own*
answers y, of the squared gradient of log p(y | x) (Kunstner et al. 2019, arXiv:1905.12558, eq. 3;
with the labels of the data it would vanish where a model has learned them by heart).

Where a row has several targets their answers are drawn apart from each other, so the expected
square of the summed gradient is the sum of the squares. The mean is taken over targets.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from ray_sft.models import HeadView, uses_heads
from ray_sft.tasks import Example, Processor, Task

__all__ = ["fisher_information"]


def fisher_information(
    module: torch.nn.Module,
    tasks: Mapping[str, Task],
    examples: Mapping[str, Sequence[Example]],
    *,
    processor: Processor,
    seed: int,
) -> dict[str, torch.Tensor]:
    """The diagonal for every trainable parameter of ``module``, by name and in its shape.

    Args:
        module: in evaluation mode; its parameters are whole.
        tasks: by name; those of several share the module, and their diagonals are added.
        examples: rows with targets by task, each run by itself.
        processor: collates them.
        seed: of the answers that are drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    found = {name: p for name, p in module.named_parameters() if p.requires_grad}
    totals = {name: torch.zeros_like(parameter) for name, parameter in found.items()}
    for name, task in tasks.items():
        rows = [example for example in examples.get(name, ()) if task.has_target(example)]
        view: Any = HeadView(module, name) if uses_heads(tasks) else module
        num_targets = 0
        squares = {key: torch.zeros_like(total) for key, total in totals.items()}
        for gradients, count in _gradients(view, task, rows, found, processor, generator):
            num_targets += count
            for key, gradient in gradients.items():
                squares[key] += gradient.square()
        for key, total in totals.items():
            total += squares[key] / max(1, num_targets)
    return totals


def _gradients(
    view: Any,
    task: Task,
    rows: Sequence[Example],
    parameters: Mapping[str, torch.nn.Parameter],
    processor: Processor,
    generator: torch.Generator,
) -> Iterator[tuple[dict[str, torch.Tensor], int]]:
    """Of each row the gradient of -log p of drawn answers, and how many answers there are."""
    for row in rows:
        batch = task.collate([row], processor)
        loss = task.loss(view, {name: torch.from_numpy(array) for name, array in batch.items()})
        probabilities = loss.logits.detach().softmax(dim=1)
        drawn = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
        surprise = cross_entropy(loss.logits, drawn, reduction="sum")
        gradients = torch.autograd.grad(surprise, list(parameters.values()), materialize_grads=True)
        yield dict(zip(parameters, gradients, strict=True)), loss.num_targets
