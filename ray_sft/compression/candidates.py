"""What a search may try: how much of a model is cut away, and how its weights are written.

A candidate is a chain of passes. Which values there are follows from the model: those that every
pass takes on.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from pydantic import Field
from transformers import AutoConfig

from ray_sft.bundle import Bundle
from ray_sft.compression.base import Pass
from ray_sft.compression.block_quantization import BlockSize
from ray_sft.compression.kernels import Kernel, KernelTiming, fastest
from ray_sft.compression.passes import (
    AnyPass,
    Distil,
    DropLayers,
    ExportOnnx,
    PruneFeedForward,
    PruneHeads,
    PruneVocabulary,
    QuantizeInt4,
    QuantizeInt8,
    QuantizeStatic,
)
from ray_sft.core import CompressionError, Config

__all__ = ["EIGHTHS", "Candidate", "Space", "Target", "Writing"]

Target: TypeAlias = Literal["size", "latency", "throughput"]
Writing: TypeAlias = Literal["fp32", "int8", "int8_static", "int4"]
EIGHTHS: Final = 8
"""Shares are searched in eighths."""
_MOST_HEADS, _MOST_NEURONS = 4, 6
_KEPT_TOKENS = 8000
_WORTH_IT = 1.5
"""How many times the kept tokens a vocabulary must hold for its pruning to be tried."""
_UNITS_KEPT = (0, 2, 4)


class Candidate(Config):
    """A smaller model to be tried."""

    layers: int = Field(default=0, ge=0)
    """How many layers are left; 0 leaves all."""
    heads_cut: int = Field(default=0, ge=0, lt=EIGHTHS)
    """Eighths of the attention heads to take away."""
    neurons_cut: int = Field(default=0, ge=0, lt=EIGHTHS)
    """Eighths of the feed-forward neurons to take away."""
    tokens: int = Field(default=0, ge=0)
    """How many of the first tokens are left beside those that training uses; 0 leaves all."""
    precision: Writing = "int8"
    """How weights are written."""
    block_size: BlockSize = 32
    """Weights of a decoder that share a scale."""
    units_kept: int = Field(default=0, ge=0)
    """How many units of products stay one precision higher: those whose rounding costs most."""

    @property
    def key(self) -> str:
        """Its name among all others."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def passes(self, *, epochs: int, steps: int) -> tuple[AnyPass, ...]:
        """The chain that makes it; students are distilled for so many epochs or steps."""
        passes: list[AnyPass] = []
        if self.layers:
            passes.append(DropLayers(keep=self.layers))
        if self.heads_cut:
            passes.append(PruneHeads(ratio=self.heads_cut / EIGHTHS))
        if self.neurons_cut:
            passes.append(PruneFeedForward(ratio=self.neurons_cut / EIGHTHS))
        if passes:
            passes.append(Distil(epochs=epochs, steps=steps))
        if self.tokens:
            passes.append(PruneVocabulary(keep_first=self.tokens))
        passes.append(ExportOnnx())
        if self.precision == "int8":
            passes.append(QuantizeInt8(block_size=self.block_size, units_in_fp32=self.units_kept))
        elif self.precision == "int8_static":
            passes.append(QuantizeStatic(units_in_fp32=self.units_kept))
        elif self.precision == "int4":
            passes.append(
                QuantizeInt4(
                    block_size=self.block_size,
                    algorithm="k_quant",
                    units_in_int8=self.units_kept,
                )
            )
        return tuple(passes)

    def is_part_of(self, other: "Candidate") -> bool:
        """Whether its student has nothing that the student of ``other`` lacks."""
        mine, theirs = self.layers or _ALL, other.layers or _ALL
        return (
            mine <= theirs
            and self.heads_cut >= other.heads_cut
            and self.neurons_cut >= other.neurons_cut
        )

    def __str__(self) -> str:
        """Such as ``3 layers, 4/8 heads, int8``."""
        if not self.layers:
            parts = ["all layers"]
        else:
            parts = [f"{self.layers} layer{'s' if self.layers > 1 else ''}"]
        if self.heads_cut:
            parts.append(f"{EIGHTHS - self.heads_cut}/{EIGHTHS} heads")
        if self.neurons_cut:
            parts.append(f"{EIGHTHS - self.neurons_cut}/{EIGHTHS} neurons")
        if self.tokens:
            parts.append(f"{self.tokens} tokens")
        in_blocks = self.block_size != Candidate.model_fields["block_size"].default
        parts.append(
            f"{self.precision} in blocks of {self.block_size}" if in_blocks else self.precision
        )
        if self.units_kept:
            parts.append(f"{self.units_kept} units kept")
        return ", ".join(parts)


_ALL = 1 << 30
_Values: TypeAlias = tuple[int, ...] | tuple[Writing, ...]


@dataclass(frozen=True, slots=True)
class Space:
    """By field of `Candidate`, the values to search, what is cut least first."""

    values: Mapping[str, _Values]

    @classmethod
    def of(cls, source: Bundle, timings: Sequence[KernelTiming], target: Target) -> "Space":
        """What the passes take on of a model.

        Args:
            source: the model.
            timings: of its products on this machine. A precision that is slower than fp32 is left
                out, unless the smallest model is searched; blocks may have the fastest size.
            target: of the search.

        Raises:
            CompressionError: it cannot be exported.
        """
        ExportOnnx().check(source)
        config = AutoConfig.from_pretrained(source.model_dir, trust_remote_code=False)
        layers = range(getattr(config, "num_hidden_layers", 1) - 1, 0, -1)
        heads, neurons = range(1, _MOST_HEADS + 1), range(1, _MOST_NEURONS + 1)
        num_tokens = getattr(config, "vocab_size", 0)
        tokens = [_KEPT_TOKENS] if num_tokens > _WORTH_IT * _KEPT_TOKENS else []
        quantized: tuple[tuple[Writing, Kernel, Pass], ...] = (
            ("int8", "int8", QuantizeInt8()),
            ("int8_static", "int8", QuantizeStatic()),
            ("int4", "int4", QuantizeInt4()),
        )
        alone = target == "latency"
        best: dict[Kernel, KernelTiming] = {
            kernel: fastest(timings, alone=alone, kernel=kernel)
            for kernel in dict.fromkeys(one.kernel for one in timings)
        }

        def is_worth_it(kernel: Kernel) -> bool:
            is_faster = fastest([best["fp32"], best[kernel]], alone=alone) is not best["fp32"]
            return target == "size" or is_faster

        writings: list[Writing] = [
            writing
            for writing, kernel, step in quantized
            if kernel in best and is_worth_it(kernel) and _takes(step, source)
        ]
        sizes = (one.block_size for kernel, one in best.items() if kernel != "fp32")
        default: int = Candidate.model_fields["block_size"].default
        return cls(
            {
                "layers": _taken(source, layers, lambda n: DropLayers(keep=n)),
                "heads_cut": _taken(source, heads, lambda n: PruneHeads(ratio=n / EIGHTHS)),
                "neurons_cut": _taken(
                    source, neurons, lambda n: PruneFeedForward(ratio=n / EIGHTHS)
                ),
                "tokens": _taken(source, tokens, lambda n: PruneVocabulary(keep_first=n)),
                "precision": ("fp32", *writings),
                "block_size": tuple(dict.fromkeys((default, *(size for size in sizes if size)))),
                "units_kept": (0,) if source.is_encoder_decoder else _UNITS_KEPT,
            }
        )

    def candidate(self, places: Mapping[str, int]) -> Candidate:
        """The one whose values stand at ``places``; where none is given, the first."""
        tree: dict[str, Any] = {
            name: values[places.get(name, 0)] for name, values in self.values.items()
        }
        if tree["precision"] == "fp32":
            tree |= {"units_kept": 0, "block_size": self.values["block_size"][0]}
        return Candidate.model_validate(tree)

    @property
    def searched(self) -> dict[str, _Values]:
        """Where there is a choice."""
        return {name: values for name, values in self.values.items() if len(values) > 1}

    def holds(self, candidate: Candidate) -> bool:
        """Whether a candidate can be tried here; what is worth it depends on the target."""
        tree = candidate.model_dump()
        return all(tree[name] in values for name, values in self.values.items())

    def places(self, candidate: Candidate) -> dict[str, int]:
        """Where the values of a candidate stand, as far as there is a choice."""
        tree = candidate.model_dump()
        return {name: list(values).index(tree[name]) for name, values in self.searched.items()}

    def anchors(self) -> list[Candidate]:
        """What is tried first: nothing cut; half of the layers; half of everything."""
        layers, heads, neurons = (
            self.values[name] for name in ("layers", "heads_cut", "neurons_cut")
        )
        half = layers[len(layers) // 2]
        last = self.values["precision"][-1]
        assert isinstance(last, str)
        whole = Candidate(precision="int8" if "int8" in self.values["precision"] else last)
        return list(
            dict.fromkeys(
                (
                    whole,
                    whole.model_copy(update={"layers": half}),
                    whole.model_copy(
                        update={
                            "layers": half,
                            "heads_cut": heads[len(heads) // 2],
                            "neurons_cut": neurons[len(neurons) // 2],
                        }
                    ),
                )
            )
        )


def _taken(source: Bundle, values: Iterable[int], make: Callable[[int], Pass]) -> tuple[int, ...]:
    """0, and those ``values`` whose pass can work on the model."""
    return (0, *(value for value in values if _takes(make(value), source)))


def _takes(step: Pass, source: Bundle) -> bool:
    if source.is_encoder_decoder and not step.takes_encoder_decoders:
        return False
    try:
        step.check(source)
    except CompressionError:
        return False
    return True
