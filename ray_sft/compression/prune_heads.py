"""Fewer attention heads, chosen by what the loss would be without them.

Heads are ranked by `ray_sft.compression.importance`, in rounds: a part of them goes, the others are
weighed again. Yang et al. 2022, "TextPruner", arXiv:2203.15996, table 3: many small rounds keep
more than one of the same total.

- In an encoder heads are ranked over all layers, each layer's figures divided by their norm
  (Michel et al. 2019, arXiv:1905.10650, section 4.1), and layers keep different numbers, at least
  one. The architectures cannot say so, so heads are silenced, and `export_onnx` cuts them out.
- In a decoder heads that share keys and values go together, and every layer loses as many, which
  its configuration can say: its cache gets smaller with it.

A model that lost heads answers worse until it is distilled.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from transformers import AutoConfig

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.attention_heads import Heads, heads_of
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.compression.importance import importances
from ray_sft.core import CompressionError, ConfigError
from ray_sft.models import load_processor, load_tasks

__all__ = ["PruneHeads"]


class PruneHeads(Pass):
    """The same model with fewer attention heads."""

    consumes: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    precision: ClassVar[Precision] = "fp32"
    variant: ClassVar[str] = "prune_heads"

    kind: Literal["prune_heads"] = "prune_heads"
    ratio: float = Field(default=0.3, gt=0, lt=1)
    """Share of the heads to take away; in a decoder, of the groups that share keys and values."""
    rounds: int = Field(default=4, ge=1, le=64)
    """In how many steps they go; after each, those that are left are weighed again."""

    @property
    def needs_examples(self) -> bool:
        """See `Pass.needs_examples`."""
        return True

    def check(self, source: Bundle) -> None:
        """See `Pass.check`: several heads, and none that the positions of words are added to."""
        config = AutoConfig.from_pretrained(source.model_dir, trust_remote_code=False)
        if getattr(config, "relative_attention_num_buckets", None):
            raise CompressionError(
                f"prune_heads: '{source.manifest.name}' ({config.model_type}) has a table of "
                "distances for each head, which cannot lose any. Leave the pass out."
            )
        if not source.is_decoder:
            return
        groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        if self._kept(groups) >= groups:
            raise CompressionError(
                f"prune_heads would keep {self._kept(groups)} of the {groups} groups of heads of "
                f"'{source.manifest.name}'. Raise ratio, or leave the pass out."
            )

    def _kept(self, count: int) -> int:
        return max(1, round(count * (1 - self.ratio)))

    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """See `Pass.apply`."""
        self.check(source)
        processor, tasks = load_processor(source.processor_dir), source.manifest.tasks
        model: Any = load_tasks(str(source.model_dir), tasks, processor=processor).eval()
        try:
            every = heads_of(model)
        except ConfigError as error:
            raise CompressionError(f"prune_heads: {error} Leave the pass out.") from None
        before = sum(len(heads.speaking()) for heads in every)
        for number in range(self.rounds):
            weighed = importances(
                model,
                [heads.output for heads in every],
                tasks,
                context.examples,
                processor,
                sizes=[heads.group_size for heads in every],
            )
            share = (number + 1) / self.rounds
            if source.is_decoder:
                kept = self._even(every, weighed, share)
            else:
                kept = self._ranked(every, weighed, before, share)
            for heads, left in zip(every, kept, strict=True):
                heads.silence([n for n in heads.speaking() if n not in left])
        if source.is_decoder:
            _cut(model, every)
        model.save_pretrained(out.model_dir)
        counts = [len(heads.speaking()) for heads in every]
        return PassResult({"heads_of_layers": counts, "num_heads_before": before})

    def _even(
        self, every: Sequence[Heads], weighed: Sequence[torch.Tensor], share: float
    ) -> list[set[int]]:
        """Of each layer equally many, ``share`` of the way to the ratio."""
        groups = every[0].num_groups
        count = groups - round((groups - self._kept(groups)) * share)
        kept = []
        for heads, one in zip(every, weighed, strict=True):
            # a silent group is worth as much as one that nothing depends on, and is none to keep
            best = sorted(heads.speaking(), key=lambda group: -float(one[group]))
            kept.append(set(best[:count]))
        return kept

    def _ranked(
        self, every: Sequence[Heads], weighed: Sequence[torch.Tensor], before: int, share: float
    ) -> list[set[int]]:
        """The most important of all layers, and the most important one of each."""
        count = before - round((before - self._kept(before)) * share)
        figures = {
            (layer, group): float(one[group] / one.norm().clamp(min=1e-30))
            for layer, one in enumerate(weighed)
            for group in every[layer].speaking()
        }
        best = sorted(figures, key=lambda place: -figures[place])
        firsts = {layer: next(place for place in best if place[0] == layer) for layer, _ in best}
        others = [place for place in best if place not in firsts.values()]
        chosen = [*firsts.values(), *others[: max(0, count - len(firsts))]]
        return [{group for one, group in chosen if one == layer} for layer in range(len(every))]


def _cut(model: Any, every: Sequence[Heads]) -> None:
    """Takes the silent heads out of a decoder, and what its configuration says of them."""
    config, size = model.config, every[0].size
    for heads in every:
        heads.keep(heads.speaking())
    config.head_dim = size
    config.num_attention_heads = every[0].query.out_features // size
    if getattr(config, "num_key_value_heads", None):
        config.num_key_value_heads = every[0].key.out_features // size
