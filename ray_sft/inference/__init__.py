"""Running a finished model: forward passes, predictions, and generated text.

Example:
    >>> from ray_sft.inference import plan_batches
    >>> plan_batches([3, 9, 4], max_batch_tokens=8)
    [[0, 2], [1]]
"""

from ray_sft.inference.batches import plan_batches
from ray_sft.inference.generate import generate
from ray_sft.inference.generation import (
    Constraint,
    EngineBusy,
    GenerationChunk,
    GenerationEngine,
    GenerationRequest,
    GenerationStream,
    SlotDecoder,
    TokenScore,
)
from ray_sft.inference.predictor import Predictor
from ray_sft.inference.runners import (
    HeadRunner,
    OnnxRunner,
    TorchRunner,
    open_session,
    torch_threads,
)
from ray_sft.inference.samples import check_samples, record_samples, sample_difference
from ray_sft.inference.seq2seq import DECODER, ENCODER, Seq2SeqRunner, cached_names

__all__ = [
    "DECODER",
    "ENCODER",
    "Constraint",
    "EngineBusy",
    "GenerationChunk",
    "GenerationEngine",
    "GenerationRequest",
    "GenerationStream",
    "HeadRunner",
    "OnnxRunner",
    "Predictor",
    "Seq2SeqRunner",
    "SlotDecoder",
    "TokenScore",
    "TorchRunner",
    "cached_names",
    "check_samples",
    "generate",
    "open_session",
    "plan_batches",
    "record_samples",
    "sample_difference",
    "torch_threads",
]
