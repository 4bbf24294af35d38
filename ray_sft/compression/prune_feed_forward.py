"""Fewer neurons between the two products of a feed-forward block, which hold most of the weights.

Neurons are ranked by `ray_sft.compression.importance` within their layer, of which each keeps
equally many, since the stock architectures have one ``intermediate_size``. They go in rounds: a
part of them, then the others are weighed again. The examples are rows of training, never those
that the result is judged by. A model that lost neurons answers worse until it is distilled.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from transformers import AutoConfig

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.compression.cut_linear import keep_inputs, keep_outputs
from ray_sft.compression.importance import importances
from ray_sft.core import CompressionError, ConfigError
from ray_sft.models import layers_of, load_processor, load_tasks

__all__ = ["PruneFeedForward"]

_MULTIPLE = 8
"""What processors multiply at once; sizes in between are no faster."""


class PruneFeedForward(Pass):
    """The same model with fewer neurons in every feed-forward block."""

    consumes: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    precision: ClassVar[Precision] = "fp32"
    variant: ClassVar[str] = "prune_feed_forward"

    kind: Literal["prune_feed_forward"] = "prune_feed_forward"
    ratio: float = Field(default=0.5, gt=0, lt=1)
    """Share of the neurons to take away, rounded so that a multiple of 8 is left."""
    intermediate_size: int = Field(default=0, ge=0, multiple_of=_MULTIPLE)
    """How many neurons are left in each layer; 0 lets ``ratio`` decide."""
    rounds: int = Field(default=4, ge=1, le=64)
    """In how many steps they go; after each, those that are left are weighed again."""

    @property
    def needs_examples(self) -> bool:
        """See `Pass.needs_examples`."""
        return True

    def check(self, source: Bundle) -> None:
        """See `Pass.check`: one size for all layers, larger than what is kept."""
        config = AutoConfig.from_pretrained(source.model_dir, trust_remote_code=False)
        found = getattr(config, "intermediate_size", None)
        if not isinstance(found, int):
            raise CompressionError(
                f"prune_feed_forward: the configuration of '{source.manifest.name}' "
                f"({config.model_type}) has no single intermediate_size, but {found}. "
                "Leave the pass out."
            )
        if self._size(found) >= found:
            raise CompressionError(
                f"prune_feed_forward would keep {self._size(found)} of the {found} neurons of "
                f"'{source.manifest.name}'. Lower intermediate_size or raise ratio."
            )

    def _size(self, found: int) -> int:
        if self.intermediate_size:
            return self.intermediate_size
        return max(_MULTIPLE, round(found * (1 - self.ratio) / _MULTIPLE) * _MULTIPLE)

    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """See `Pass.apply`."""
        self.check(source)
        processor = load_processor(source.processor_dir)
        tasks = source.manifest.tasks
        model: Any = load_tasks(str(source.model_dir), tasks, processor=processor).eval()
        blocks = _blocks(model)
        before, size = model.config.intermediate_size, self._size(model.config.intermediate_size)
        kept_importance = 1.0
        for number in range(self.rounds):
            weighed = importances(
                model,
                [block.down for block in blocks],
                tasks,
                context.examples,
                processor,
                sizes=[1] * len(blocks),
            )
            count = before - round((before - size) * (number + 1) / self.rounds)
            every = torch.stack(weighed)
            left = every.topk(count).values.sum() / every.sum().clamp(min=1e-30)
            kept_importance *= float(left)
            for block, importance in zip(blocks, weighed, strict=True):
                block.keep(importance.topk(count).indices.sort().values)
        model.config.intermediate_size = size
        model.save_pretrained(out.model_dir)
        return PassResult({"intermediate_size": size, "kept_importance": kept_importance})


@dataclass(frozen=True, slots=True)
class _Block:
    """The products around the neurons of a layer."""

    up: tuple[torch.nn.Linear, ...]
    """Of which each row makes a neuron, or its gate."""
    down: torch.nn.Linear

    def keep(self, neurons: torch.Tensor) -> None:
        """Cuts all other neurons out of the weights."""
        for linear in self.up:
            keep_outputs(linear, neurons)
        keep_inputs(self.down, neurons)


def _blocks(model: Any) -> list[_Block]:
    """The feed-forward block of every layer, found by its size.

    Raises:
        CompressionError: a layer has none, or other products of the same size.
    """
    size = model.config.intermediate_size
    try:
        layers = layers_of(model)
    except ConfigError as error:
        raise CompressionError(f"prune_feed_forward: {error}") from None
    blocks = []
    for layer in layers:
        linears = [part for part in layer.modules() if isinstance(part, torch.nn.Linear)]
        up = tuple(part for part in linears if part.out_features == size)
        down = [part for part in linears if part.in_features == size]
        if not up or len(down) != 1:
            raise CompressionError(
                f"prune_feed_forward: a {type(layer).__name__} has {len(up)} products to {size} "
                f"neurons and {len(down)} from them, not one block of its own. Leave the pass out."
            )
        blocks.append(_Block(up, down[0]))
    return blocks
