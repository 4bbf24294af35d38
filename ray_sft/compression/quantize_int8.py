"""8-bit weights: dynamic int8 for encoders, block-wise int8 for decoders.

Dynamic int8 computes on integers throughout and is the fastest there is on processors with VNNI,
but the scale of its activations is shared by a batch, so an answer depends slightly on its
neighbours. A decoder must generate the same text alone and in a batch; `MatMulNBits` scales every
row by itself and keeps that.
"""

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, Literal

import onnx
from onnxruntime.quantization import quantize_dynamic
from pydantic import Field

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.compression.block_quantization import BlockSize, quantize_blocks
from ray_sft.compression.graph import graph_names, save_graph
from ray_sft.compression.integer_graph import quantizer_options, without_advice
from ray_sft.compression.sensitivity import most_sensitive
from ray_sft.core import CompressionError

__all__ = ["QuantizeInt8", "quantize_dynamically"]


class QuantizeInt8(Pass):
    """Matrix products with 8-bit weights."""

    consumes: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    precision: ClassVar[Precision] = "int8"
    variant: ClassVar[str] = "int8"
    takes_encoder_decoders: ClassVar[bool] = True

    kind: Literal["quantize_int8"] = "quantize_int8"
    block_size: BlockSize = 32
    """Weights of a decoder that share a scale; encoders have one scale per output channel."""
    embeddings: bool = True
    """Also the word embeddings of an encoder: no faster, but often half of its size."""

    units_in_fp32: int = Field(default=0, ge=0)
    """How many units of products that read the same values (queries, keys and values are one) stay
    in fp32: those whose rounding changes the answers to training rows the most."""

    @property
    def needs_examples(self) -> bool:
        """See `Pass.needs_examples`."""
        return self.units_in_fp32 > 0

    def check(self, source: Bundle) -> None:
        """See `Pass.check`: every model that can be exported, without exceptions in two graphs."""
        if source.is_encoder_decoder and self.units_in_fp32:
            raise CompressionError(
                f"quantize_int8: '{source.manifest.name}' is an encoder-decoder, in whose two "
                "graphs no units can be chosen to stay in fp32 yet. Leave units_in_fp32 out."
            )

    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """See `Pass.apply`."""

        def quantize(folder: Path, others: Collection[str]) -> None:
            self._quantize(source, folder, others=others)

        others = most_sensitive(source, self.units_in_fp32, context.examples, quantize)
        quantize(out.model_dir, others)
        block_size = {"block_size": self.block_size} if source.is_decoder else {}
        return PassResult({"in_fp32": others, **block_size})

    def _quantize(self, source: Bundle, model_dir: Path, *, others: Collection[str]) -> None:
        """Writes the graph with all products but ``others`` quantized."""
        if source.is_decoder:
            size = self.block_size
            quantize_blocks(source.model_dir, model_dir, bits=8, block_size=size, others=others)
        else:
            quantize_dynamically(
                source.model_dir, model_dir, others=others, embeddings=self.embeddings
            )


def quantize_dynamically(
    source_dir: Path, model_dir: Path, *, others: Collection[str], embeddings: bool
) -> None:
    """Writes the graphs of ``source_dir`` with all products but ``others`` in int8."""
    for name in graph_names(source_dir):
        options = quantizer_options(source_dir, name=name, others=others, embeddings=embeddings)
        graph = onnx.load(source_dir / name)  # of a path it would write beside the source
        with without_advice():
            quantize_dynamic(graph, model_dir / name, **options)
        save_graph(onnx.load(model_dir / name), model_dir, name=name)
    for file in source_dir.glob("*.json"):  # how an encoder-decoder begins and ends
        shutil.copy(file, model_dir)
