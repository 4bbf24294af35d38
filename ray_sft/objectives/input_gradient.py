"""The gradient of a loss at the embedded input, under any engine and any ZeRO stage.

``autograd.grad`` through a DeepSpeed engine meets two obstacles (seen in 0.19.8):

- The engine hooks the tensors that a model returns and takes the first gradient to arrive for a
  backward of its own: stage 0 refuses it, the others end a backward, reductions included, that
  never was. It hooks only tensors with a history. So the model returns copies without one: the
  gradient is walked to the copies, and from there, inside the model, to the input.
- Stage 3 gathers a module's parameters for as many walks as it had passes. A graph that is kept
  for a second walk meets released parameters ("size of tensor a (0)", DeepSpeed issues 3539 and
  7352). So this pass is walked once and thrown away; another one computes the loss to train on.

The walk ends at the embedded input and touches no parameter's gradient.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from ray_sft.core import ConfigError
from ray_sft.tasks import LossFn, TensorBatch

__all__ = ["hooked", "input_gradients"]


def input_gradients(
    loss_fn: LossFn,
    batch: TensorBatch,
    module: torch.nn.Module,
    embeddings: Sequence[torch.nn.Module],
    *,
    kind: str,
) -> list[torch.Tensor]:
    """The gradient of the summed loss at each output of ``embeddings``, in the order of calls.

    Zeros where the loss does not depend on one, so that every rank walks the same modules.
    ``kind`` is the objective that asks.

    Raises:
        ConfigError: ``loss_fn`` runs ``module`` without any of its ``embeddings``.
    """
    embedded: list[torch.Tensor] = []
    inner: list[torch.Tensor] = []
    outer: list[torch.Tensor] = []

    def cut_input(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    def cut_outputs(_module: torch.nn.Module, _inputs: Any, output: Any) -> Any:
        return tree_map_only(torch.Tensor, cut_output, output)

    def cut_output(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.requires_grad:
            return tensor
        inner.append(tensor)
        outer.append(tensor.detach().requires_grad_())
        return outer[-1]

    with hooked(embeddings, cut_input), hooked([module], cut_outputs):
        loss_sum = loss_fn(batch).loss_sum
    if not embedded:
        raise ConfigError(
            f"objective '{kind}' changes the embedded input, but {type(module).__name__} does not "
            f"use its {type(embeddings[0]).__name__} for this input. Remove {kind} from objectives."
        )
    arriving = torch.autograd.grad(loss_sum, outer, materialize_grads=True)
    return list(torch.autograd.grad(inner, embedded, arriving, materialize_grads=True))


@contextmanager
def hooked(modules: Sequence[torch.nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    """A context in which ``hook`` may replace what each of ``modules`` returns."""
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(module.register_forward_hook(hook))
        yield
