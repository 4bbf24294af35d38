"""Sequences that several workers share: each runs the layers on a part of the tokens.

Jacobs et al. 2023, "DeepSpeed Ulysses: System Optimizations for Enabling Training of Extreme Long
Sequence Transformer Models", arXiv:2309.14509, section 3.1: all but attention works on every token
by itself. Before attention an all-to-all gives each worker all tokens of its share of the heads,
and behind it another one gives back all heads of its own tokens. What a worker keeps for the
backward pass falls with the number of workers.

A worker's part of a batch has the labels of its tokens and that of the next one, which its last
token has to predict. To the rest of a training it is a batch like any other: gradients are summed
over all workers, whichever tokens they had.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch.distributed.nn.functional import all_to_all_single

from ray_sft.core import ConfigError
from ray_sft.tasks import IGNORED, Array, Batch

__all__ = [
    "SharedSequence",
    "own_heads",
    "own_tokens",
    "part_of",
    "shared_sequence",
    "sharing",
]


@dataclass(frozen=True, slots=True)
class SharedSequence:
    """What attention has to know of the tokens of the other workers."""

    group: Any
    """Of the workers that share a sequence."""
    size: int
    position_ids: torch.Tensor
    """Of all tokens, (rows, tokens)."""


_now: list[SharedSequence] = []
"""At most one; no context variable, since layers may be run again by a thread of autograd's."""


@contextmanager
def sharing(shared: SharedSequence | None) -> Iterator[None]:
    """Models read their part of a sequence here, forward and backward."""
    _now[:] = [] if shared is None else [shared]
    try:
        yield
    finally:
        _now.clear()


def shared_sequence() -> SharedSequence | None:
    """The sequence that is shared now."""
    return _now[0] if _now else None


def part_of(batch: Batch, *, place: int, size: int) -> tuple[Batch, Array]:
    """The part of a packed batch for the worker at ``place`` of ``size``, and all positions.

    ``batch`` has ``input_ids``, ``position_ids`` and ``labels``, (rows, tokens). It gets as many
    tokens more as it takes, in a sequence of their own; the labels of a part are one more than its
    tokens, the first of which is of its own first token.
    """
    width = batch["input_ids"].shape[1]
    more = -width % size
    each = (width + more) // size
    span = slice(place * each, (place + 1) * each)
    positions = np.concatenate(
        [batch["position_ids"], np.tile(np.arange(more), (len(batch["position_ids"]), 1))], axis=1
    )
    labels = np.pad(batch["labels"], ((0, 0), (0, more + 1)), constant_values=IGNORED)
    ids = np.pad(batch["input_ids"], ((0, 0), (0, more)), mode="edge")
    return {
        "input_ids": ids[:, span],
        "position_ids": positions[:, span],
        "labels": labels[:, span.start : span.stop + 1],
    }, positions


def own_heads(
    shared: SharedSequence, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each (batch, heads, own tokens, dim) to (batch, own heads, tokens, dim).

    Keys and values of fewer heads than workers are repeated.

    Raises:
        ConfigError: the workers cannot have the same number of heads.
    """
    num_heads = key.shape[1]
    if shared.size % num_heads == 0:
        times = shared.size // num_heads
        key, value = (tensor.repeat_interleave(times, dim=1) for tensor in (key, value))
    for tensor in (query, key):
        if tensor.shape[1] % shared.size:
            raise ConfigError(
                f"train.sequence_parallel: {shared.size} workers cannot each have the same number "
                f"of {tensor.shape[1]} attention heads. Set it to a divisor of that."
            )
    return _exchanged(shared, query), _exchanged(shared, key), _exchanged(shared, value)


def own_tokens(shared: SharedSequence, found_BTHD: torch.Tensor) -> torch.Tensor:
    """(batch, tokens, own heads, dim) to (batch, own tokens, heads, dim)."""
    return _exchanged(shared, found_BTHD)


def _exchanged(shared: SharedSequence, tensor: torch.Tensor) -> torch.Tensor:
    """Parts of axis 1 go to the workers, and what they send is put together along axis 2."""
    sent = torch.stack(tensor.chunk(shared.size, dim=1)).contiguous()
    received = all_to_all_single(  # type: ignore[no-untyped-call] # torch's
        torch.empty_like(sent), sent, group=shared.group
    )
    return torch.cat(tuple(cast(torch.Tensor, received).unbind()), dim=2)
