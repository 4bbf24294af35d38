"""The embedded input of a model: where it is, and what it costs to move it a certain way.

Objectives that change what a model reads change the output of its word embeddings, before
positions, norms and dropout. Only activations are touched: parameters may be partitioned (ZeRO).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ray_sft.core import ConfigError
from ray_sft.objectives.input_gradient import hooked, input_gradients
from ray_sft.tasks import LossFn, TensorBatch

__all__ = ["EmbeddedInput", "ascended", "random_state_restored", "sequence_numbers"]


class EmbeddedInput:
    """What a module's embeddings return, to be measured and moved in the passes of a loss."""

    def __init__(self, module: torch.nn.Module, *, kind: str) -> None:
        """Finds the embeddings of ``module`` for an objective of some ``kind``.

        Raises:
            ConfigError: the module does not tell where they are.
        """
        self._module, self._kind = module, kind
        self.embeddings = _input_embeddings(module, kind)

    def gradients(
        self, loss_fn: LossFn, batch: TensorBatch, deltas: Sequence[torch.Tensor] = ()
    ) -> list[torch.Tensor]:
        """See `input_gradients`, at the input moved by ``deltas``, under repeated draws."""
        with random_state_restored(self._module), self.moved(deltas):
            return input_gradients(loss_fn, batch, self._module, self.embeddings, kind=self._kind)

    def moved(self, deltas: Sequence[torch.Tensor]) -> AbstractContextManager[None]:
        """A context whose embedded inputs are moved by one delta each, in the order of calls."""
        return hooked(self.embeddings, _adding(iter(deltas))) if deltas else nullcontext()


def ascended(
    deltas: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    positions: torch.Tensor | None,
    *,
    step_size: float,
    epsilon: float,
) -> list[torch.Tensor]:
    """Deltas after a step up the gradient, projected back to where none is too long.

    In each sequence ``delta + step_size g / ||g||``, and no longer than ``epsilon``. No
    ``deltas`` are zeros. A sequence without a gradient (no targets) stays where it is.
    """
    steps = [_of_length(gradient, positions, length=step_size) for gradient in gradients]
    moved = [delta + step for delta, step in zip(deltas, steps, strict=True)] if deltas else steps
    return [_no_longer(delta, positions, epsilon=epsilon) for delta in moved]


def _of_length(
    vectors: torch.Tensor, positions: torch.Tensor | None, *, length: float
) -> torch.Tensor:
    """``vectors``, (batch, tokens, ...), scaled to ``length`` in each sequence; zeros stay."""
    norms_BT = _norms(vectors, positions)
    factors_BT = length / norms_BT.clamp(min=torch.finfo(torch.float64).tiny)
    return _scaled(vectors, factors_BT)


def _no_longer(
    vectors: torch.Tensor, positions: torch.Tensor | None, *, epsilon: float
) -> torch.Tensor:
    """``vectors``, (batch, tokens, ...), cut to the length ``epsilon`` in each sequence."""
    norms_BT = _norms(vectors, positions)
    factors_BT = epsilon / norms_BT.clamp(min=torch.finfo(torch.float64).tiny)
    return _scaled(vectors, factors_BT.clamp(max=1.0))


def _norms(vectors: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    """At each token the length of its sequence's vectors, (batch, tokens), float64.

    Squares of what a certain model leaves of a gradient vanish in fp32.
    """
    squares_BT = vectors.double().square().flatten(2).sum(dim=2)
    sequence_BT = sequence_numbers(positions, squares_BT)
    sums_BT = torch.zeros_like(squares_BT).scatter_add(1, sequence_BT, squares_BT)
    return sums_BT.gather(1, sequence_BT).sqrt()


def _scaled(vectors: torch.Tensor, factors_BT: torch.Tensor) -> torch.Tensor:
    shape = (*factors_BT.shape, *[1] * (vectors.ndim - 2))
    return (vectors * factors_BT.reshape(shape)).to(vectors.dtype)


def sequence_numbers(positions: torch.Tensor | None, like_BT: torch.Tensor) -> torch.Tensor:
    """Which sequence of its row a token belongs to, (batch, tokens), counted from zero.

    One begins where positions do not go on; without positions of that shape a row is one.
    """
    if positions is None or positions.shape != like_BT.shape:
        return torch.zeros_like(like_BT, dtype=torch.int64)
    begins_BT = torch.zeros_like(positions, dtype=torch.int64)
    begins_BT[:, 1:] = positions[:, 1:] != positions[:, :-1] + 1
    return begins_BT.cumsum(dim=1)


def random_state_restored(module: torch.nn.Module) -> AbstractContextManager[None]:
    """A context whose random draws, dropout above all, are repeated by what follows it."""
    device = next(module.parameters()).device
    if device.type == "cpu":
        return torch.random.fork_rng(devices=[])
    return torch.random.fork_rng(devices=[device], device_type=device.type)


def _adding(deltas: Iterator[torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A forward hook that adds the next delta to what its module returns."""

    def add(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output + next(deltas)

    return add


def _input_embeddings(module: torch.nn.Module, kind: str) -> list[torch.nn.Module]:
    """The modules whose outputs are the embedded input, by transformers' convention.

    Several where an encoder and a decoder look up the same table, each by a module of its own.
    """
    try:
        embedding = getattr(module, "get_input_embeddings", lambda: None)()
    except NotImplementedError:
        embedding = None
    if not isinstance(embedding, torch.nn.Module):
        raise ConfigError(
            f"objective '{kind}' changes the embedded input, but {type(module).__name__} does not "
            f"tell where that is (get_input_embeddings). Remove {kind} from objectives."
        )
    table, inside = getattr(embedding, "weight", None), set(embedding.modules())
    others = [
        part
        for part in module.modules()
        if isinstance(part, torch.nn.Embedding) and part.weight is table and part not in inside
    ]
    return [embedding, *others]
