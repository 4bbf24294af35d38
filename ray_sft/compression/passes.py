"""Every pass that a recipe may name."""

from typing import Annotated, TypeAlias, get_args

from pydantic import Field

from ray_sft.compression.distil import Distil
from ray_sft.compression.drop_layers import DropLayers
from ray_sft.compression.export_onnx import ExportOnnx
from ray_sft.compression.half_precision import HalfPrecision
from ray_sft.compression.low_rank import LowRank
from ray_sft.compression.prune_feed_forward import PruneFeedForward
from ray_sft.compression.prune_heads import PruneHeads
from ray_sft.compression.prune_vocabulary import PruneVocabulary
from ray_sft.compression.quantize_int4 import QuantizeInt4
from ray_sft.compression.quantize_int8 import QuantizeInt8
from ray_sft.compression.quantize_static import QuantizeStatic
from ray_sft.compression.sparsify import Sparsify

__all__ = [
    "VARIANTS",
    "AnyPass",
    "Distil",
    "DropLayers",
    "ExportOnnx",
    "HalfPrecision",
    "LowRank",
    "PruneFeedForward",
    "PruneHeads",
    "PruneVocabulary",
    "QuantizeInt4",
    "QuantizeInt8",
    "QuantizeStatic",
    "Sparsify",
]

AnyPass: TypeAlias = Annotated[
    DropLayers
    | PruneFeedForward
    | PruneHeads
    | PruneVocabulary
    | Sparsify
    | Distil
    | HalfPrecision
    | ExportOnnx
    | LowRank
    | QuantizeInt8
    | QuantizeStatic
    | QuantizeInt4,
    Field(discriminator="kind"),
]
"""Every pass, by its ``kind``."""

VARIANTS = frozenset(kind.variant for kind in get_args(get_args(AnyPass)[0]))
"""What passes call the bundles that they make, where a chain has each of them once."""
