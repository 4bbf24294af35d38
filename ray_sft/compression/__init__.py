"""Making a model smaller and faster, and refusing to where it would cost too much.

Example:
    >>> from ray_sft.compression import Compress
    >>> [step.kind for step in Compress().passes]
    ['export_onnx', 'quantize_int8']
"""

from ray_sft.compression.base import EncodedRows, Pass, PassContext, PassResult, Retrain
from ray_sft.compression.candidates import Candidate, Space, Target
from ray_sft.compression.chain import Compress, compress
from ray_sft.compression.front import UNFINISHED, Tried, pareto_front
from ray_sft.compression.gates import budget_misses, check_budget_names
from ray_sft.compression.kernels import KernelTiming, fastest, products_of, time_kernels
from ray_sft.compression.measure import BATCH_SIZE, NUM_SLOTS, Speed, make_workload, measure
from ray_sft.compression.passes import (
    VARIANTS,
    AnyPass,
    Distil,
    DropLayers,
    ExportOnnx,
    HalfPrecision,
    LowRank,
    PruneFeedForward,
    PruneHeads,
    PruneVocabulary,
    QuantizeInt4,
    QuantizeInt8,
    QuantizeStatic,
    Sparsify,
)
from ray_sft.compression.publish import publish
from ray_sft.compression.record import chain_fingerprint
from ray_sft.compression.report import StepReport

__all__ = [
    "BATCH_SIZE",
    "NUM_SLOTS",
    "UNFINISHED",
    "VARIANTS",
    "AnyPass",
    "Candidate",
    "Compress",
    "Distil",
    "DropLayers",
    "EncodedRows",
    "ExportOnnx",
    "HalfPrecision",
    "KernelTiming",
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
    "Space",
    "Sparsify",
    "Speed",
    "StepReport",
    "Target",
    "Tried",
    "budget_misses",
    "chain_fingerprint",
    "check_budget_names",
    "compress",
    "fastest",
    "make_workload",
    "measure",
    "pareto_front",
    "products_of",
    "publish",
    "time_kernels",
]
