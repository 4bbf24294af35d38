"""4-bit weights for decoders, which alone wait for memory rather than for arithmetic."""

from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.compression.block_quantization import Algorithm, BlockSize, quantize_blocks
from ray_sft.compression.sensitivity import calibration_batches, most_sensitive
from ray_sft.core import CompressionError
from ray_sft.tasks import Batch

__all__ = ["QuantizeInt4"]


class QuantizeInt4(Pass):
    """Matrix products of a decoder with 4-bit weights."""

    consumes: ClassVar[Format] = "onnx"
    produces: ClassVar[Format] = "onnx"
    precision: ClassVar[Precision] = "int4"
    variant: ClassVar[str] = "int4"

    kind: Literal["quantize_int4"] = "quantize_int4"
    block_size: BlockSize = 32
    """Weights that share a scale; 128 is faster on large models, and loses a little more."""

    algorithm: Algorithm = "rtn"
    """How weights are rounded: ``k_quant`` searches scale and offset, ``gptq`` lets later weights
    make up for earlier ones on training rows; both take longer and lose less."""
    units_in_int8: int = Field(default=0, ge=0)
    """How many units of products that read the same values get 8 bits: those whose rounding to 4
    bits changes the answers to training rows the most."""

    @property
    def needs_examples(self) -> bool:
        """See `Pass.needs_examples`."""
        return self.units_in_int8 > 0 or self.algorithm == "gptq"

    def check(self, source: Bundle) -> None:
        """See `Pass.check`: decoders only."""
        if not source.is_decoder:
            raise CompressionError(
                f"quantize_int4 is for decoders; '{source.manifest.name}' is a "
                f"{source.task.head} model, which is faster in int8. Use quantize_int8."
            )

    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """See `Pass.apply`."""
        batches: list[Batch] = []
        if self.algorithm == "gptq":
            batches = list(calibration_batches(source, context.examples))
            if not batches:
                raise CompressionError("gptq looks at training rows, but there are none.")

        def quantize(folder: Path, others: Collection[str], rest: Literal[8, 32] = 32) -> None:
            quantize_blocks(
                source.model_dir,
                folder,
                bits=4,
                block_size=self.block_size,
                others=others,
                bits_of_others=rest,
                algorithm=self.algorithm,
                batches=batches,
            )

        others = most_sensitive(source, self.units_in_int8, context.examples, quantize)
        quantize(out.model_dir, others, 8)
        properties = {"block_size": self.block_size, "algorithm": self.algorithm}
        return PassResult({**properties, "in_int8": others})
