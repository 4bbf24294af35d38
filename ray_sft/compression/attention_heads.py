"""The heads of a model's attention: which of them say nothing, and a model without those.

Encoders of transformers' families hold as many heads as their configuration says, each an equal
share of the width, so that a model with fewer is none that they can load. A head can be silent,
though: where the rows that make its values and the columns that read them are zero, it adds
nothing, and no gradient ever reaches it or those weights again, so it stays silent in training.
In memory, and in a graph, what is silent can be cut out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ray_sft.compression.cut_linear import keep_inputs, keep_outputs
from ray_sft.core import ConfigError
from ray_sft.models import KEYS, QUERIES, VALUES, layers_of

__all__ = ["Heads", "cut_silent_heads", "heads_of"]

_OUTPUTS = ("o_proj", "out_proj", "out_lin", "attention.output.dense")
"""Names of what reads all heads, in the families of `QUERIES`."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The products of a layer's attention. Heads that share keys and values are a group."""

    query: torch.nn.Linear
    key: torch.nn.Linear
    value: torch.nn.Linear
    output: torch.nn.Linear
    size: int
    """Width of a head."""

    @property
    def num_groups(self) -> int:
        """How many groups there are: as many as heads, where none are shared."""
        return self.key.out_features // self.size

    @property
    def group_size(self) -> int:
        """Width of all heads of a group."""
        return self.query.out_features // self.num_groups

    def silence(self, groups: Sequence[int]) -> None:
        """Makes ``groups`` add nothing, now and in training."""
        with torch.no_grad():
            for group in groups:
                rows = slice(group * self.size, (group + 1) * self.size)
                self.value.weight[rows] = 0.0
                if self.value.bias is not None:
                    self.value.bias[rows] = 0.0
                columns = slice(group * self.group_size, (group + 1) * self.group_size)
                self.output.weight[:, columns] = 0.0

    def speaking(self) -> list[int]:
        """The groups that are not silent."""
        values = self.value.weight.detach().reshape(self.num_groups, -1)
        if self.value.bias is not None:
            bias = self.value.bias.detach().reshape(self.num_groups, -1)
            values = torch.cat([values, bias], dim=1)
        readers = self.output.weight.detach().T.reshape(self.num_groups, -1)
        says = values.any(dim=1) | readers.any(dim=1)
        return [group for group, speaks in enumerate(says.tolist()) if speaks]

    def keep(self, groups: Sequence[int]) -> None:
        """Cuts all other groups out of the weights."""
        own = [torch.arange(group * self.size, (group + 1) * self.size) for group in groups]
        shared, width = torch.cat(own), self.group_size
        theirs = torch.cat([torch.arange(group * width, (group + 1) * width) for group in groups])
        keep_outputs(self.query, theirs)
        keep_outputs(self.key, shared)
        keep_outputs(self.value, shared)
        keep_inputs(self.output, theirs)


def heads_of(model: Any) -> list[Heads]:
    """The attention of every layer.

    Raises:
        ConfigError: a layer has none of the known names, or more than one.
    """
    config = model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    found = []
    for layer in layers_of(model):
        parts = [_parts(layer, names) for names in (QUERIES, KEYS, VALUES, _OUTPUTS)]
        if any(len(part) != 1 for part in parts) or getattr(config, "is_encoder_decoder", False):
            raise ConfigError(
                f"a {type(layer).__name__} has no single attention whose heads are known: looked "
                f"for {', '.join((*QUERIES, *KEYS, *VALUES, *_OUTPUTS))}."
            )
        query, key, value, output = (part[0] for part in parts)
        found.append(Heads(query, key, value, output, size))
    return found


def _parts(layer: torch.nn.Module, names: Sequence[str]) -> list[torch.nn.Linear]:
    return [
        part
        for name, part in layer.named_modules()
        if isinstance(part, torch.nn.Linear) and f".{name}".endswith(tuple(f".{n}" for n in names))
    ]


def cut_silent_heads(model: Any) -> int:
    """Takes silent heads out of a model in memory; how many that were.

    One of a layer always stays. What is left answers as before, but cannot be saved.
    """
    try:
        every = heads_of(model)
    except ConfigError:
        return 0
    num_cut = 0
    for heads in every:
        kept = heads.speaking() or [0]
        num_cut += heads.num_groups - len(kept)
        if len(kept) < heads.num_groups:
            heads.keep(kept)
    return num_cut
