"""Making a model smaller and faster, and refusing to where it would cost too much.

Example:
    >>> from ray_sft.compression import Compress
    >>> [step.kind for step in Compress().passes]
    ['export_onnx', 'quantize_int8']
"""

from ray_sft.compression.base import EncodedRows, Pass, PassContext, PassResult, Retrain
from ray_sft.compression.chain import Compress, compress
from ray_sft.compression.measure import Speed, make_workload, measure
from ray_sft.compression.passes import (
    VARIANTS,
    AnyPass,
    Distil,
    DropLayers,
    ExportOnnx,
    LowRank,
    PruneFeedForward,
    PruneHeads,
    PruneVocabulary,
    QuantizeInt4,
    QuantizeInt8,
    QuantizeStatic,
    Sparsify,
)
from ray_sft.compression.report import StepReport

__all__ = [
    "VARIANTS",
    "AnyPass",
    "Compress",
    "Distil",
    "DropLayers",
    "EncodedRows",
    "ExportOnnx",
    "LowRank",
    "Pass",
    "PassContext",
    "PassResult",
    "PruneFeedForward",
    "PruneHeads",
    "PruneVocabulary",
    "QuantizeInt4",
    "QuantizeInt8",
    "QuantizeStatic",
    "Retrain",
    "Sparsify",
    "Speed",
    "StepReport",
    "compress",
    "make_workload",
    "measure",
]
