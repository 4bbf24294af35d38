"""Weights of 16 bits for hosts with GPUs, which compute on them: half of the size, hardly a change.

``bf16`` has the range of fp32 and 8 bits of precision; ``fp16`` has 11 bits, and overflows beyond
65,504. On CPUs the weights are read back as fp32, so that nothing is faster there.
"""

from typing import Any, ClassVar, Literal

import torch

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.compression.base import NO_CONTEXT, Pass, PassContext, PassResult, Precision
from ray_sft.core import CompressionError
from ray_sft.models import load_processor, load_tasks

__all__ = ["HalfPrecision"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class HalfPrecision(Pass):
    """The same model with weights of 16 bits."""

    consumes: ClassVar[Format] = "torch"
    produces: ClassVar[Format] = "torch"
    precision: ClassVar[Precision] = "half"
    variant: ClassVar[str] = "half"
    takes_encoder_decoders: ClassVar[bool] = True

    kind: Literal["half_precision"] = "half_precision"
    dtype: Literal["bf16", "fp16"] = "bf16"
    """Of the weights."""

    def check(self, source: Bundle) -> None:
        """See `Pass.check`: every model has weights."""

    def apply(
        self, source: Bundle, out: BundleWriter, context: PassContext = NO_CONTEXT
    ) -> PassResult:
        """See `Pass.apply`."""
        del context
        tasks, processor = source.manifest.tasks, load_processor(source.processor_dir)
        model: Any = load_tasks(str(source.model_dir), tasks, processor=processor)
        model.to(_DTYPES[self.dtype])
        for name, parameter in model.named_parameters():
            if not parameter.isfinite().all():
                raise CompressionError(
                    f"half_precision: '{name}' holds values that {self.dtype} cannot. Set dtype to "
                    "bf16, or leave the pass out."
                )
        model.save_pretrained(out.model_dir)
        return PassResult({"dtype": self.dtype})
