"""Running a finished model: forward passes, predictions, and generated text.

Example:
    >>> from ray_sft.inference import plan_batches
    >>> plan_batches([3, 9, 4], max_batch_tokens=8)
    [[0, 2], [1]]
"""

from ray_sft.inference.batches import plan_batches
from ray_sft.inference.cuda import decoder_device, missing_for_cuda
from ray_sft.inference.generate import generate
from ray_sft.inference.generation import (
    Constraint,
    EngineBusy,
    GenerationChunk,
    GenerationEngine,
    GenerationRequest,
    GenerationStream,
    PagedEngine,
    SlotDecoder,
    TextEngine,
    TokenScore,
    open_engine,
)
from ray_sft.inference.paged_runner import PagedRunner
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
    "PagedEngine",
    "PagedRunner",
    "Predictor",
    "Seq2SeqRunner",
    "SlotDecoder",
    "TextEngine",
    "TokenScore",
    "TorchRunner",
    "cached_names",
    "check_samples",
    "decoder_device",
    "generate",
    "missing_for_cuda",
    "open_engine",
    "open_session",
    "plan_batches",
    "record_samples",
    "sample_difference",
    "torch_threads",
]
