"""Fewer neurons between the two products of a feed-forward block, which hold most of the weights.

A neuron is worth what the loss would change without it, to first order. With a gate of 1 at each
neuron, the derivative of the loss of an example by the gate is the sum over its tokens of the
activation times its gradient; importance is the mean over the examples of its absolute value.
Michel et al. 2019, "Are Sixteen Heads Really Better than One?", arXiv:1905.10650, eq. 2, for
heads; Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning", arXiv:1906.10771,
section 3.2, for neurons behind gates, there squared (eq. 8).

Neurons are ranked within their layer, of which each keeps equally many, since the stock
architectures have one ``intermediate_size``. The examples are rows of training, never those that
the result is judged by. A model that lost neurons answers worse until it is distilled.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from transformers import AutoConfig

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.core import CompressionError, ConfigError
from ray_sft.inference import plan_batches
from ray_sft.models import HeadView, layers_of, load_processor, load_tasks, uses_heads
from ray_sft.tasks import Example, Processor, Task

__all__ = ["PruneFeedForward"]

_MULTIPLE = 8
"""What processors multiply at once; sizes in between are no faster."""
_BATCH_TOKENS = 2048


class PruneFeedForward(Pass):
    """The same model with fewer neurons in every feed-forward block."""

    consumes: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    precision: ClassVar[Precision] = "fp32"
    variant: ClassVar[str] = "prune_feed_forward"
    needs_examples: ClassVar[bool] = True

    kind: Literal["prune_feed_forward"] = "prune_feed_forward"
    ratio: float = Field(default=0.5, gt=0, lt=1)
    """Share of the neurons to take away, rounded so that a multiple of 8 is left."""
    intermediate_size: int = Field(default=0, ge=0, multiple_of=_MULTIPLE)
    """How many neurons are left in each layer; 0 lets ``ratio`` decide."""

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
        size = self._size(model.config.intermediate_size)
        importances = _importances(model, blocks, tasks, context.examples, processor)
        for block, importance in zip(blocks, importances, strict=True):
            block.keep(importance.topk(size).indices.sort().values)
        model.config.intermediate_size = size
        model.save_pretrained(out.model_dir)
        every = torch.stack(importances)
        kept = every.topk(size).values.sum() / every.sum().clamp(min=1e-30)
        return PassResult({"intermediate_size": size, "kept_importance": float(kept)})


@dataclass(frozen=True, slots=True)
class _Block:
    """The products around the neurons of a layer."""

    up: tuple[torch.nn.Linear, ...]
    """Of which each row makes a neuron, or its gate."""
    down: torch.nn.Linear

    def keep(self, neurons: torch.Tensor) -> None:
        """Cuts all other neurons out of the weights."""
        for linear in self.up:
            linear.weight = torch.nn.Parameter(linear.weight.detach()[neurons].contiguous())
            if linear.bias is not None:
                linear.bias = torch.nn.Parameter(linear.bias.detach()[neurons].contiguous())
            linear.out_features = len(neurons)
        weight = self.down.weight.detach()[:, neurons].contiguous()
        self.down.weight = torch.nn.Parameter(weight)
        self.down.in_features = len(neurons)


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


def _importances(
    model: torch.nn.Module,
    blocks: Sequence[_Block],
    tasks: Mapping[str, Task],
    examples: Mapping[str, Sequence[Example]],
    processor: Processor,
) -> list[torch.Tensor]:
    """Of each block, the mean over examples of a neuron's influence on the loss, (neurons,)."""
    totals = [torch.zeros(block.down.in_features) for block in blocks]
    num_rows = 0
    for name, batch in _batches(tasks, examples, processor):
        view = HeadView(model, name) if uses_heads(tasks) else model
        activations: list[torch.Tensor] = []

        def note(_module: torch.nn.Module, inputs: Any, into: Any = activations) -> None:
            into.append(inputs[0])

        with ExitStack() as stack:
            for block in blocks:
                stack.enter_context(block.down.register_forward_pre_hook(note))
            loss_sum = tasks[name].loss(view, batch).loss_sum
        gradients = torch.autograd.grad(loss_sum, activations)
        for total, activation_BTN, gradient_BTN in zip(totals, activations, gradients, strict=True):
            total += (activation_BTN * gradient_BTN).detach().sum(dim=1).abs().sum(dim=0)
        num_rows += len(batch["input_ids"])
    if not num_rows:
        raise CompressionError("prune_feed_forward needs training rows, but there are none.")
    return [total / num_rows for total in totals]


def _batches(
    tasks: Mapping[str, Task], examples: Mapping[str, Sequence[Example]], processor: Processor
) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    for name, task in tasks.items():
        rows = examples.get(name, ())
        for group in plan_batches([row.length for row in rows], max_batch_tokens=_BATCH_TOKENS):
            batch = task.collate([rows[index] for index in group], processor)
            yield name, {key: torch.from_numpy(array) for key, array in batch.items()}
