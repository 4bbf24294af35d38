"""4-bit weights for decoders, which alone wait for memory rather than for arithmetic."""

from typing import ClassVar, Literal

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.compression.block_quantization import BlockSize, quantize_blocks
from ray_sft.core import CompressionError

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
        del context
        quantize_blocks(source.model_dir, out.model_dir, bits=4, block_size=self.block_size)
        return PassResult({"block_size": self.block_size})
