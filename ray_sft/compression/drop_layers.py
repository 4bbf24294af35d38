"""Fewer layers: the quickest way to a faster model, since what is left is as wide as before.

Which layers go is chosen in one of two ways:

- ``spread``: those that are left are spread evenly over the depth, the first and the last among
  them. Sajjad et al. 2023, "On the effect of dropping layers of pre-trained transformer models",
  arXiv:2004.03844, section 3 ("alternate dropping"); DistilBERT starts from every other layer too.
- ``similarity``: those whose output is most like their input. Men et al. 2024, "ShortGPT",
  arXiv:2403.03853, eq. 1: the block influence of a layer is 1 - E[cos(x_t, y_t)] over the tokens t,
  with x the layer's input and y its output; the least influential go, all at once. The text here
  is that of the bundle's samples.

A model that lost layers answers worse until it is distilled.
"""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from transformers import AutoConfig

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.core import CompressionError, ConfigError
from ray_sft.models import layers_of, load_processor, load_tasks
from ray_sft.tasks import Example

__all__ = ["DropLayers"]


class DropLayers(Pass):
    """The same model with fewer layers."""

    consumes: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    precision: ClassVar[Precision] = "fp32"
    variant: ClassVar[str] = "drop_layers"

    kind: Literal["drop_layers"] = "drop_layers"
    keep: int = Field(ge=1)
    """How many layers are left."""
    by: Literal["spread", "similarity"] = "spread"
    """Which: spread evenly over the depth, or those that change their input the most."""

    def check(self, source: Bundle) -> None:
        """See `Pass.check`: there must be more layers than are kept."""
        config = AutoConfig.from_pretrained(source.model_dir, trust_remote_code=False)
        num_layers = getattr(config, "num_hidden_layers", None)
        if num_layers is None:
            raise CompressionError(
                f"drop_layers: the configuration of '{source.manifest.name}' "
                f"({config.model_type}) names no number of layers. Leave the pass out."
            )
        if self.keep >= num_layers:
            raise CompressionError(
                f"drop_layers: keep is {self.keep}, but '{source.manifest.name}' has only "
                f"{num_layers} layers. Set keep to {num_layers - 1} or less, or leave the pass out."
            )

    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """See `Pass.apply`."""
        del context
        self.check(source)
        processor = load_processor(source.processor_dir)
        model: Any = load_tasks(
            str(source.model_dir), source.manifest.tasks, processor=processor
        ).eval()
        try:
            layers = layers_of(model)
        except ConfigError as error:
            raise CompressionError(f"drop_layers: {error}") from None
        if self.by == "similarity":
            kept = _most_influential(_influences(model, layers, _sample_ids(source)), self.keep)
        else:
            kept = _spread(len(layers), self.keep)
        _keep(model, layers, kept)
        model.save_pretrained(out.model_dir)
        return PassResult({"kept_layers": kept})


def _spread(num_layers: int, keep: int) -> list[int]:
    """``keep`` numbers from 0 to the last layer, at even distances."""
    steps = max(1, keep - 1)
    return [(number * (num_layers - 1) + steps // 2) // steps for number in range(keep)]


def _most_influential(influences: list[float], keep: int) -> list[int]:
    """Numbers of the layers with the largest figures, in their order."""
    by_influence = sorted(range(len(influences)), key=lambda number: -influences[number])
    return sorted(by_influence[:keep])


def _sample_ids(source: Bundle) -> list[torch.Tensor]:
    """Token ids of every usable sample, (1, tokens)."""
    processor = load_processor(source.processor_dir)
    encoded = [
        item
        for name, task in source.manifest.tasks.items()
        for item in task.encode([pair["request"] for pair in source.samples(name)], processor)
        if isinstance(item, Example)
    ]
    if not encoded:
        raise CompressionError(
            f"drop_layers: bundle '{source.path}' has no usable sample to compare layers on. "
            "Set by: spread."
        )
    return [torch.from_numpy(item.arrays["input_ids"]).long()[None] for item in encoded]


def _influences(
    model: torch.nn.Module, layers: torch.nn.ModuleList, texts: list[torch.Tensor]
) -> list[float]:
    """1 - the mean cosine of input and output over all tokens, of each layer."""
    sums = [0.0] * len(layers)

    def note(number: int) -> Any:
        def add(_module: torch.nn.Module, inputs: Any, output: Any) -> None:
            made_BTD = output if isinstance(output, torch.Tensor) else output[0]
            sums[number] += float(torch.cosine_similarity(inputs[0], made_BTD, dim=-1).sum())

        return add

    hooks = [layer.register_forward_hook(note(number)) for number, layer in enumerate(layers)]
    try:
        with torch.no_grad():
            for ids in texts:
                model(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        for hook in hooks:
            hook.remove()
    num_tokens = sum(ids.numel() for ids in texts)
    return [1.0 - total / num_tokens for total in sums]


def _keep(model: Any, layers: torch.nn.ModuleList, kept: list[int]) -> None:
    """Takes the other layers out of the model, and what its configuration says of them."""
    config = model.config
    num_layers = len(layers)
    for name, value in config.to_dict().items():
        if "layer" in name and isinstance(value, list) and len(value) == num_layers:
            setattr(config, name, [value[number] for number in kept])
    for number in sorted(set(range(num_layers)) - set(kept), reverse=True):
        del layers[number]
    config.num_hidden_layers = len(kept)
