"""Small models made from scratch: a tokenizer learned from the run's own text, random weights.

They need no download and know no language until the recipe has trained them: a decoder by causal
language modelling, an encoder by masked language modelling, an encoder-decoder by translation.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PegasusConfig,
    PegasusForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

__all__ = [
    "FROM_SCRATCH",
    "TINY_BERT",
    "TINY_LLAMA",
    "TINY_PEGASUS",
    "save_from_scratch",
    "save_tiny_llama",
    "tiny_bert_config",
    "tiny_llama_config",
    "tiny_pegasus_config",
    "train_tokenizer",
    "train_wordpiece",
]

TINY_LLAMA: Final = "embedded/tiny-llama"
TINY_BERT: Final = "embedded/tiny-bert"
TINY_PEGASUS: Final = "embedded/tiny-pegasus"

_CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


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


def train_wordpiece(texts: Iterable[str], *, vocab_size: int) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer as BERT's, trained on ``texts``.

    Chinese characters are tokens of their own; what the text does not hold becomes ``[UNK]``.
    The texts are read twice.
    """
    assert iter(texts) is not texts, "an iterator would have ended after the first time"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = _wordpiece_vocabulary(texts, vocab_size=0, first=special)
    # ties between merges go by the ids of what is merged, and the trainer numbers the pieces
    # within words as it meets them in a hash table: in another order in each process
    within = sorted(piece for piece in letters if piece.startswith("##"))
    vocabulary = _wordpiece_vocabulary(texts, vocab_size=vocab_size, first=[*special, *within])
    tokenizer = _wordpiece(vocabulary)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, special.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        padding_side="right",
    )


def _wordpiece_vocabulary(
    texts: Iterable[str], *, vocab_size: int, first: list[str]
) -> dict[str, int]:
    tokenizer = _wordpiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=first, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab()


def _wordpiece(vocabulary: dict[str, int] | None = None) -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _tiny_llama(
    texts: Iterable[str], vocab_size: int, max_length: int
) -> tuple[PreTrainedTokenizerFast, type[PreTrainedModel], Any]:
    processor = train_tokenizer(texts, vocab_size=vocab_size)
    return processor, LlamaForCausalLM, tiny_llama_config(processor, max_length=max_length)


def _tiny_bert(
    texts: Iterable[str], vocab_size: int, max_length: int
) -> tuple[PreTrainedTokenizerFast, type[PreTrainedModel], Any]:
    processor = train_wordpiece(texts, vocab_size=vocab_size)
    return processor, BertForMaskedLM, tiny_bert_config(processor, max_length=max_length)


def _tiny_pegasus(
    texts: Iterable[str], vocab_size: int, max_length: int
) -> tuple[PreTrainedTokenizerFast, type[PreTrainedModel], Any]:
    processor = train_tokenizer(texts, vocab_size=vocab_size)
    config = tiny_pegasus_config(processor, max_length=max_length)
    return processor, PegasusForConditionalGeneration, config


FROM_SCRATCH: Final[
    dict[
        str,
        Callable[
            [Iterable[str], int, int], tuple[PreTrainedTokenizerFast, type[PreTrainedModel], Any]
        ],
    ]
] = {TINY_LLAMA: _tiny_llama, TINY_BERT: _tiny_bert, TINY_PEGASUS: _tiny_pegasus}
"""The models that a recipe may start from without weights, by their names."""


def save_from_scratch(
    name: str,
    texts: Iterable[str],
    out_dir: Path,
    *,
    vocab_size: int,
    max_length: int,
    seed: int,
) -> None:
    """Writes a new tokenizer trained on ``texts`` and a model ``name`` with random weights."""
    processor, model_class, config = FROM_SCRATCH[name](texts, vocab_size, max_length)
    transformers.logging.disable_progress_bar()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config)
    processor.save_pretrained(out_dir)
    model.save_pretrained(out_dir)


def save_tiny_llama(
    texts: Iterable[str], out_dir: Path, *, vocab_size: int, max_length: int, seed: int
) -> None:
    """Writes ``embedded/tiny-llama`` for ``texts``."""
    save_from_scratch(
        TINY_LLAMA, texts, out_dir, vocab_size=vocab_size, max_length=max_length, seed=seed
    )


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


def tiny_bert_config(processor: Any, *, max_length: int) -> BertConfig:
    """A BERT of about 5 million parameters for a trained tokenizer."""
    return BertConfig(
        vocab_size=len(processor),
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=max(512, max_length),
        pad_token_id=processor.pad_token_id,
    )


def tiny_pegasus_config(processor: Any, *, max_length: int) -> PegasusConfig:
    """A Pegasus of about 5 million parameters and the embeddings of a trained tokenizer.

    Its layers normalise what they read, so that it learns from scratch at rates at which one that
    normalises what it writes, Marian say, never comes to look at the text.
    More layers read than write, since those that write run once a token: at a third of the time
    nothing is lost (Kasai et al. 2021, arXiv:2006.10369).
    """
    return PegasusConfig(
        vocab_size=len(processor),
        d_model=256,
        encoder_layers=4,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        max_position_embeddings=max(256, max_length),
        dropout=0.2,
        scale_embedding=True,
        pad_token_id=processor.pad_token_id,
        bos_token_id=processor.bos_token_id,
        eos_token_id=processor.eos_token_id,
        decoder_start_token_id=processor.bos_token_id,
        forced_eos_token_id=None,
    )
