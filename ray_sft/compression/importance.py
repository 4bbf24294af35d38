"""How much the loss would change without a part of what a product reads, to first order.

With a gate of 1 at each part, the derivative of the loss of an example by the gate is the sum over
its tokens of the part's values times their gradients; importance is the mean over the examples of
its absolute value. Michel et al. 2019, "Are Sixteen Heads Really Better than One?",
arXiv:1905.10650, eq. 2, for heads; Molchanov et al. 2019, "Importance Estimation for Neural Network
Pruning", arXiv:1906.10771, section 3.2, for neurons behind gates, there squared (eq. 8).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from ray_sft.core import CompressionError
from ray_sft.inference import plan_batches
from ray_sft.models import HeadView, uses_heads
from ray_sft.tasks import Example, Processor, Task

__all__ = ["importances", "loss_batches"]

_BATCH_TOKENS = 2048


def importances(
    model: torch.nn.Module,
    readers: Sequence[torch.nn.Linear],
    tasks: Mapping[str, Task],
    examples: Mapping[str, Sequence[Example]],
    processor: Processor,
    *,
    sizes: Sequence[int],
) -> list[torch.Tensor]:
    """Of each part of what each of ``readers`` reads, its importance, (parts,).

    Args:
        model: in evaluation mode.
        readers: products of ``model``, in the order in which they run.
        tasks: whose losses count, of all tasks together.
        examples: by task, of which the mean is taken.
        processor: collates them.
        sizes: of each reader, how many of its inputs are one part.

    Raises:
        CompressionError: there is no example.
    """
    totals = [
        torch.zeros(reader.in_features // size) for reader, size in zip(readers, sizes, strict=True)
    ]
    num_rows = 0
    for name, batch in loss_batches(tasks, examples, processor):
        view = HeadView(model, name) if uses_heads(tasks) else model
        values: list[torch.Tensor] = []

        def note(_module: torch.nn.Module, inputs: Any, into: Any = values) -> None:
            into.append(inputs[0])

        with ExitStack() as stack:
            for reader in readers:
                stack.enter_context(reader.register_forward_pre_hook(note))
            loss_sum = tasks[name].loss(view, batch).loss_sum
        gradients = torch.autograd.grad(loss_sum, values)
        for total, values_BTN, gradients_BTN, size in zip(
            totals, values, gradients, sizes, strict=True
        ):
            changes_BN = (values_BTN * gradients_BTN).detach().sum(dim=1)
            changes_BPS = changes_BN.reshape(len(changes_BN), -1, size)
            total += changes_BPS.sum(dim=2).abs().sum(dim=0)
        num_rows += len(batch["input_ids"])
    if not num_rows:
        raise CompressionError("a pass that weighs parts needs training rows, but there are none.")
    return [total / num_rows for total in totals]


def loss_batches(
    tasks: Mapping[str, Task], examples: Mapping[str, Sequence[Example]], processor: Processor
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Every example of every task in batches, with the task's name."""
    for name, task in tasks.items():
        rows = examples.get(name, ())
        for group in plan_batches([row.length for row in rows], max_batch_tokens=_BATCH_TOKENS):
            batch = task.collate([rows[index] for index in group], processor)
            yield name, {key: torch.from_numpy(array) for key, array in batch.items()}
