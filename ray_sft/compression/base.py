"""The contract of a compression pass: one bundle in, the model of another out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from ray_sft.bundle import Bundle, BundleWriter, Format
from ray_sft.core import Config

__all__ = ["Pass", "PassResult", "Precision"]

Precision: TypeAlias = Literal["fp32", "int8", "int4"]


@dataclass(frozen=True, slots=True)
class PassResult:
    """What a pass tells about its work, for the manifest."""

    properties: Mapping[str, Any] = field(default_factory=dict)


class Pass(Config, ABC):
    """A step of a chain. Subclasses are frozen values; fields are what YAML may set."""

    consumes: ClassVar[Format]
    produces: ClassVar[Format]
    precision: ClassVar[Precision]
    """What it makes of the weights; only fp32 can be quantized."""
    variant: ClassVar[str]
    """The name of the bundle's folder."""
    is_exact: ClassVar[bool] = False
    """Whether the outputs must equal the source's within the parity tolerance."""
    kind: str

    @abstractmethod
    def check(self, source: Bundle) -> None:
        """Looks at the source of the whole chain, before any work.

        Raises:
            CompressionError: the pass cannot work on such a model.
        """

    @abstractmethod
    def apply(self, source: Bundle, out: BundleWriter) -> PassResult:
        """Writes the model of ``source``, changed, into ``out.model_dir``, and nothing else."""
