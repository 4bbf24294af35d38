"""FGM: the loss where a small step in the embedded input hurts most.

Miyato et al. 2017, "Adversarial Training Methods for Semi-Supervised Text Classification",
arXiv:1605.07725. Eq. 5: with the embedded sequence s and g the gradient of the loss at s, the
perturbation is epsilon g / ||g||, the norm taken over the whole sequence. Eq. 6: the loss of the
perturbed sequence, under a perturbation that is a constant, is added to the clean one.

Deviations:

- The paper normalises its embeddings to mean 0 and variance 1 (eq. 1); pretrained ones stay as
  they are, so epsilon is a length in their units. The perturbation is added to the word embeddings
  before positions, norms and dropout.
- A sequence of a packed row has a norm of its own wherever ``position_ids`` tell where it begins.
  Inputs that are no text (patches, frames) have one norm per row.
- All passes of a micro-batch drop the same units. The perturbation is then the worst for the very
  network that it is given to, which is what eq. 5 linearises, and the clean pass is the same with
  and without this objective.

Only activations are perturbed: parameters may be partitioned (ZeRO), and never change.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field

from ray_sft.core import ConfigError
from ray_sft.objectives.base import Objective
from ray_sft.objectives.input_gradient import hooked, input_gradients
from ray_sft.tasks import Loss, LossFn, TensorBatch

__all__ = ["Fgm"]


class Fgm(Objective):
    """Trains against the worst small change of the embedded input.

    Costs two more passes forward, one of them with a walk back to the input.
    """

    kind: Literal["fgm"] = "fgm"
    epsilon: float = Field(default=1.0, ge=0)
    """Length of a sequence's perturbation in units of the embeddings; 0 changes nothing."""
    weight: float = Field(default=1.0, ge=0)
    """What the adversarial loss counts beside the clean one; 0 changes nothing."""

    def wrap(self, loss_fn: LossFn, module: torch.nn.Module) -> LossFn:
        """See `Objective.wrap`."""
        if self.epsilon == 0 or self.weight == 0:
            return loss_fn
        embeddings = _input_embeddings(module)

        def adversarial(batch: TensorBatch) -> Loss:
            with _random_state_restored(module):
                gradients = input_gradients(loss_fn, batch, module, embeddings)
            with _random_state_restored(module):
                clean = loss_fn(batch)
            positions = batch.get("position_ids")
            deltas = [_perturbation(g, positions, epsilon=self.epsilon) for g in gradients]
            with hooked(embeddings, _adding(iter(deltas))):
                perturbed = loss_fn(batch)
            loss_sum = clean.loss_sum + self.weight * perturbed.loss_sum
            return replace(clean, loss_sum=loss_sum)

        return adversarial


def _perturbation(
    gradient: torch.Tensor, positions: torch.Tensor | None, *, epsilon: float
) -> torch.Tensor:
    """``gradient``, shape (batch, tokens, ...), scaled to length ``epsilon`` in each sequence.

    A sequence without a gradient (no targets) is left alone. Lengths are taken in fp64: squares of
    what a certain model leaves of a gradient vanish in fp32, and the step would be no step of
    ``epsilon``.
    """
    squares_BT = gradient.double().square().flatten(2).sum(dim=2)
    sequence_BT = _sequence_numbers(positions, squares_BT)
    sums_BT = torch.zeros_like(squares_BT).scatter_add(1, sequence_BT, squares_BT)
    norms_BT = sums_BT.gather(1, sequence_BT).sqrt()
    factors_BT = epsilon / norms_BT.clamp(min=torch.finfo(torch.float64).tiny)
    return (gradient * factors_BT.reshape(*squares_BT.shape, *[1] * (gradient.ndim - 2))).to(
        gradient.dtype
    )


def _sequence_numbers(positions: torch.Tensor | None, like_BT: torch.Tensor) -> torch.Tensor:
    """Which sequence of its row a token belongs to, (batch, tokens), counted from zero.

    One begins where positions do not go on; without positions of that shape a row is one.
    """
    if positions is None or positions.shape != like_BT.shape:
        return torch.zeros_like(like_BT, dtype=torch.int64)
    begins_BT = torch.zeros_like(positions, dtype=torch.int64)
    begins_BT[:, 1:] = positions[:, 1:] != positions[:, :-1] + 1
    return begins_BT.cumsum(dim=1)


def _adding(deltas: Iterator[torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A forward hook that adds the next delta to what its module returns."""

    def add(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output + next(deltas)

    return add


def _random_state_restored(module: torch.nn.Module) -> AbstractContextManager[None]:
    """A context whose random draws, dropout above all, are repeated by what follows it."""
    device = next(module.parameters()).device
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)


def _input_embeddings(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The modules whose outputs are the embedded input, by transformers' convention.

    Several where an encoder and a decoder look up the same table, each by a module of its own.
    """
    try:
        embedding = getattr(module, "get_input_embeddings", lambda: None)()
    except NotImplementedError:
        embedding = None
    if not isinstance(embedding, torch.nn.Module):
        raise ConfigError(
            f"objective 'fgm' perturbs the embedded input, but {type(module).__name__} does not "
            "tell where that is (get_input_embeddings). Remove fgm from objectives."
        )
    table, inside = getattr(embedding, "weight", None), set(embedding.modules())
    others = [
        part
        for part in module.modules()
        if isinstance(part, torch.nn.Embedding) and part.weight is table and part not in inside
    ]
    return [embedding, *others]
