"""How much memory a worker of a training needs, estimated before anything is loaded.

Weights, gradients and optimizer state are counted exactly, by what each ZeRO stage divides among
the workers (Rajbhandari et al. 2020, arXiv:1910.02054, section 3): fp32 weights and gradients,
the two moments of AdamW, and from stage 1 on DeepSpeed's own flat fp32 copy of the part that a
worker updates. What the layers keep for the backward pass is an estimate after Korthikanti et al.
2022, arXiv:2205.05198, eq. 2, for one micro-batch.
"""

from typing import Any

import torch

from ray_sft.core import Config
from ray_sft.models import BITS_PER_WEIGHT
from ray_sft.training.config import Train

__all__ = ["MemoryEstimate", "ModelSize", "estimate_memory", "model_size"]

_FP32 = 4


class ModelSize(Config):
    """What the memory of a training depends on."""

    num_parameters: int
    num_trained: int
    """Parameters that are trained; fewer than all with an adapter."""
    num_packed: int = 0
    """Weights that are held in four bits, whole on every worker."""
    num_layers: int
    hidden_size: int
    num_heads: int
    vocab_size: int


class MemoryEstimate(Config):
    """Bytes that one worker needs."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it together."""
        return self.weights + self.gradients + self.optimizer + self.activations


def model_size(model: torch.nn.Module, *, num_packed: int = 0) -> ModelSize:
    """The size of a model, which may have no weights yet; ``num_packed`` are in four bits."""
    config: Any = model.config
    parameters = list(model.parameters())
    return ModelSize(
        num_parameters=sum(one.numel() for one in parameters),
        num_trained=sum(one.numel() for one in parameters if one.requires_grad),
        num_packed=num_packed,
        num_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads,
        vocab_size=config.vocab_size,
    )


def estimate_memory(
    size: ModelSize,
    train: Train,
    *,
    longest: int,
    has_token_logits: bool,
    zero_stage: int | None = None,
) -> MemoryEstimate:
    """What each of ``train.workers`` workers needs.

    Args:
        size: of the model.
        train: settings; ``precision: auto`` counts as fp32, the larger one.
        longest: tokens of the longest example, the width of the widest micro-batch.
        has_token_logits: whether every token has a score for each word of the vocabulary.
        zero_stage: in place of the one of ``train``.
    """
    stage = train.zero_stage if zero_stage is None else zero_stage
    part, parts = train.tensor_parallel / train.workers, train.tensor_parallel
    embeddings = size.vocab_size * size.hidden_size  # which workers do not share
    num_trained = min(size.num_trained, embeddings) + max(0, size.num_trained - embeddings) // parts
    num_own = embeddings + (size.num_parameters - size.num_packed - embeddings) // parts
    moments = 2 * _FP32 * num_trained
    copy = _FP32 * num_trained if stage else 0
    held = _FP32 * num_own * (part if stage >= 3 else 1)
    return MemoryEstimate(
        weights=round(held + size.num_packed * BITS_PER_WEIGHT / 8),
        gradients=round(_FP32 * num_trained * (part if stage >= 2 else 1)),
        optimizer=round((moments + copy) * (part if stage >= 1 else 1)),
        activations=_activations(size, train, longest, has_token_logits=has_token_logits),
    )


def _activations(size: ModelSize, train: Train, longest: int, *, has_token_logits: bool) -> int:
    tokens = max(longest, train.tokens_per_step // (train.replicas * train.gradient_accumulation))
    tokens = -(-tokens // train.sequence_parallel)
    bytes_each = 2 if train.precision == "bf16" else _FP32
    # eq. 2 counts 34 h + 5 a s bytes a token and layer where numbers have two bytes
    of_layer = (34 * size.hidden_size + 5 * size.num_heads * longest) * bytes_each // 2
    logits = 2 * _FP32 * size.vocab_size if has_token_logits else 0
    if train.activation_checkpointing:  # the inputs of all layers, and the inside of one
        kept = size.num_layers * size.hidden_size * bytes_each + of_layer
    else:
        kept = size.num_layers * of_layer
    return tokens * (kept + logits)
