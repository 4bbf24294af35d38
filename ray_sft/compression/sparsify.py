"""Zeros in the weights of the layers: half of them cost little, and ONNX Runtime gains nothing.

Which weights go is chosen by one of two scores, compared within each row (of one output):

- ``wanda``: |W_ij| ||X_j||, with the norm of input j over the tokens of training rows. Sun et al.
  2023, "A Simple and Effective Pruning Approach for Large Language Models", arXiv:2306.11695,
  eq. 1. Layers are pruned from the first to the last, each by what it reads then (section 3).
- ``magnitude``: |W_ij| alone; Han et al. 2015, arXiv:1506.02626, section 3.

Unstructured sparsity makes a file smaller once it is packed (zip), no model faster: ONNX Runtime
multiplies zeros as it multiplies all else. 2 of 4 in a row is what GPUs with sparse tensor cores
skip, where the software that runs them is told to. For speed on CPUs take `prune_feed_forward`,
`prune_heads` or `drop_layers`.

Training fills zeros again, so this comes behind the passes that train.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.compression.importance import loss_batches
from ray_sft.core import CompressionError, ConfigError
from ray_sft.models import HeadView, layers_of, load_processor, load_tasks, uses_heads
from ray_sft.tasks import TensorBatch

__all__ = ["Sparsify"]

_OF_FOUR = 4


class Sparsify(Pass):
    """The same model with zeros for its least weights: smaller when packed, no faster."""

    consumes: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    precision: ClassVar[Precision] = "fp32"
    variant: ClassVar[str] = "sparsify"
    is_undone_by_training: ClassVar[bool] = True

    kind: Literal["sparsify"] = "sparsify"
    sparsity: float = Field(default=0.5, gt=0, lt=1)
    """Share of the weights of each row that become zero."""
    pattern: Literal["unstructured", "2:4"] = "unstructured"
    """Anywhere in a row, or two of each four neighbours, for GPUs that skip those."""
    by: Literal["wanda", "magnitude"] = "wanda"
    """The score of a weight; ``wanda`` looks at training rows."""

    @model_validator(mode="after")
    def _two_of_four_is_half(self) -> Self:
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise ValueError("pattern 2:4 is a sparsity of 0.5; leave sparsity out")
        return self

    @property
    def needs_examples(self) -> bool:
        """See `Pass.needs_examples`."""
        return self.by == "wanda"

    def check(self, source: Bundle) -> None:
        """See `Pass.check`: every model has weights."""

    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """See `Pass.apply`."""
        processor, tasks = load_processor(source.processor_dir), source.manifest.tasks
        model: Any = load_tasks(str(source.model_dir), tasks, processor=processor).eval()
        try:
            layers = layers_of(model)
        except ConfigError as error:
            raise CompressionError(f"sparsify: {error} Leave the pass out.") from None
        batches = list(loss_batches(tasks, context.examples, processor))
        if self.by == "wanda" and not batches:
            raise CompressionError("sparsify by wanda needs training rows, but there are none.")
        views = {n: HeadView(model, n) if uses_heads(tasks) else model for n in tasks}
        num_zeros = num_weights = 0
        for layer in layers:
            parts = [part for part in layer.modules() if isinstance(part, torch.nn.Linear)]
            norms = _input_norms(parts, views, batches) if self.by == "wanda" else None
            for number, part in enumerate(parts):
                score = part.weight.detach().abs()
                score = score if norms is None else score * norms[number]
                with torch.no_grad():
                    part.weight[self._least(score)] = 0.0
                num_zeros += int((part.weight == 0).sum())
                num_weights += part.weight.numel()
        model.save_pretrained(out.model_dir)
        properties = {"sparsity": num_zeros / num_weights, "faster_on_onnx_runtime": False}
        return PassResult(properties)

    def _least(self, score_OI: torch.Tensor) -> torch.Tensor:
        """Which weights become zero, (outputs, inputs)."""
        width = _OF_FOUR if self.pattern == "2:4" else score_OI.shape[1]
        if score_OI.shape[1] % width:
            raise CompressionError(
                f"sparsify: a product reads {score_OI.shape[1]} inputs, no multiple of four. Set "
                "pattern: unstructured."
            )
        groups = score_OI.reshape(-1, width)
        count = round(width * self.sparsity)
        least = groups.argsort(dim=1, stable=True)[:, :count]
        chosen = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, least, value=True)
        return chosen.reshape(score_OI.shape)


def _input_norms(
    parts: Sequence[torch.nn.Linear],
    views: Mapping[str, torch.nn.Module],
    batches: Sequence[tuple[str, TensorBatch]],
) -> list[torch.Tensor]:
    """Of each of ``parts``, the norm of every input over all tokens but padding, (inputs,)."""
    squares = [torch.zeros(part.in_features) for part in parts]
    masks: list[torch.Tensor] = []

    def note(number: int) -> Any:
        def add(_module: torch.nn.Module, inputs: Any) -> None:
            values_BTI = inputs[0].detach()[: len(masks[-1])]
            mask_BT1 = masks[-1][:, : values_BTI.shape[1], None]
            squares[number] += (values_BTI * mask_BT1).square().sum(dim=(0, 1))

        return add

    with ExitStack() as stack, torch.no_grad():
        for number, part in enumerate(parts):
            stack.enter_context(part.register_forward_pre_hook(note(number)))
        for name, batch in batches:
            masks.append(batch["attention_mask"].float())
            inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
            views[name](**inputs)
    return [one.sqrt() for one in squares]
