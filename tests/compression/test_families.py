"""Architectures as they are published, in heads and options, with few layers, words and widths.

What the tiny models of the other tests do not have: heads of 64 and 128, biases and norms on some
of queries, keys and values, embeddings that are tied, positions that begin behind the padding's.
"""

from dataclasses import replace

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    LlamaConfig,
    MarianConfig,
    MBartConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    T5Config,
)

from ray_sft.compression import ExportOnnx, QuantizeInt8
from ray_sft.compression.gates import check_operators, logit_difference
from ray_sft.compression.graph import operators
from ray_sft.compression.identities import batching_difference, caching_difference
from ray_sft.core import CompressionError
from ray_sft.inference import Predictor
from ray_sft.tasks import CausalLanguageModel, SequenceClassification, Translation
from tests.compression.conftest import LABELS, TEXTS, apply, write_bundle

BASE = {
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "num_labels": len(LABELS),
}
HALVES = {
    "d_model": 256,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 512,
    "decoder_ffn_dim": 512,
    "max_position_embeddings": 256,
}
ENCODERS = {
    "bert-base": BertConfig(**BASE),
    "roberta-base": RobertaConfig(**BASE, max_position_embeddings=514, type_vocab_size=1),
    "electra-small": ElectraConfig(**(BASE | {"embedding_size": 128})),
    "distilbert-base": DistilBertConfig(
        dim=256, n_layers=2, n_heads=4, hidden_dim=1024, num_labels=len(LABELS)
    ),
}
DECODERS = {
    "llama-3.2-1b": LlamaConfig(
        hidden_size=512,
        intermediate_size=1024,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=64,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    ),
    "mistral": MistralConfig(
        hidden_size=512,
        intermediate_size=1024,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=128,
        sliding_window=None,
    ),
    "qwen2.5-0.5b": Qwen2Config(
        hidden_size=448,
        intermediate_size=1024,
        num_attention_heads=7,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    ),
    "qwen3-0.6b": Qwen3Config(
        hidden_size=512,
        intermediate_size=1024,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=128,
        tie_word_embeddings=True,
    ),
}
ENCODER_DECODERS = {
    "t5-small": T5Config(d_model=256, d_kv=64, d_ff=512, num_layers=2, num_heads=4),
    "flan-t5-small": T5Config(
        d_model=256,
        d_kv=64,
        d_ff=512,
        num_layers=2,
        num_heads=6,
        feed_forward_proj="gated-gelu",
        initializer_factor=0.3,  # else its logits, which nothing scales, go into the hundreds
        tie_word_embeddings=False,
    ),
    "opus-mt": MarianConfig(**HALVES, scale_embedding=True),
    "bart-base": BartConfig(**HALVES),
}


def check(source, examples, folder):
    """Torch and ONNX, a batch and single texts, a cache and none, and int8 behind it."""
    bundle, _ = apply(ExportOnnx(), source, folder / "onnx")
    bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"format": "onnx"}))
    before, after = Predictor(source), Predictor(bundle)
    assert logit_difference(before, after, [one["request"] for one in source.samples()]) <= 1e-4
    assert batching_difference(after, examples) <= 1e-4
    if source.is_decoder or source.is_encoder_decoder:
        assert caching_difference(after, examples) <= 1e-4
    small, _ = apply(QuantizeInt8(), bundle, folder / "int8")
    check_operators("quantize_int8", "int8", operators(small.model_dir))
    assert small.num_bytes < 0.35 * bundle.num_bytes


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_exported_and_answers_the_same(name, processor, tmp_path):
    config = ENCODERS[name]
    config.vocab_size, config.pad_token_id = len(processor), processor.pad_token_id
    torch.manual_seed(0)
    task = SequenceClassification(labels=LABELS)
    rows = [{"text": text, "label": LABELS[i % 4]} for i, text in enumerate(TEXTS)]
    source = write_bundle(
        tmp_path / "trained",
        name="intent",
        task=task,
        model=AutoModelForSequenceClassification.from_config(config),
        processor=processor,
        rows=[{"text": row["text"]} for row in rows],
    )
    check(source, task.encode(rows, processor), tmp_path)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_is_exported_and_answers_the_same(name, processor, tmp_path):
    config = DECODERS[name]
    config.vocab_size, config.num_hidden_layers = len(processor), 2
    if getattr(config, "layer_types", None):
        config.layer_types = ["full_attention"] * 2
    config.max_position_embeddings = 256
    for kind in ("bos", "eos", "pad"):
        setattr(config, f"{kind}_token_id", getattr(processor, f"{kind}_token_id"))
    torch.manual_seed(0)
    task = CausalLanguageModel(max_length=96)
    rows = [
        {"messages": [{"role": "user", "content": one}, {"role": "assistant", "content": two}]}
        for one, two in zip(TEXTS, reversed(TEXTS), strict=True)
    ]
    source = write_bundle(
        tmp_path / "trained",
        name="reply",
        task=task,
        model=AutoModelForCausalLM.from_config(config),
        processor=processor,
        rows=rows,
    )
    check(source, task.encode(rows, processor), tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("t5-small", "opus-mt"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("flan-t5-small", "bart-base")),
    ],
)
def test_an_encoder_decoder_is_exported_and_answers_the_same(name, processor, tmp_path):
    config = ENCODER_DECODERS[name]
    config.vocab_size = config.decoder_vocab_size = len(processor)
    for kind in ("bos", "eos", "pad"):
        setattr(config, f"{kind}_token_id", getattr(processor, f"{kind}_token_id"))
    config.decoder_start_token_id = processor.pad_token_id
    source, examples = translator(config, processor, tmp_path)
    check(source, examples, tmp_path)


def test_a_family_that_begins_by_another_token_is_refused(processor, tmp_path):
    config = MBartConfig(**HALVES, vocab_size=len(processor), pad_token_id=processor.pad_token_id)
    source, _ = translator(config, processor, tmp_path)
    with pytest.raises(CompressionError, match=r"MBart.* begins .*T5, Marian or BART"):
        apply(ExportOnnx(), source, tmp_path / "onnx")


def translator(config, processor, folder):
    """An encoder-decoder that has learned nothing, and rows."""
    torch.manual_seed(0)
    task = Translation(max_length=64)
    rows = [
        {"text": one, "translation": two} for one, two in zip(TEXTS, reversed(TEXTS), strict=True)
    ]
    source = write_bundle(
        folder / "trained",
        name="pairs",
        task=task,
        model=AutoModelForSeq2SeqLM.from_config(config),
        processor=processor,
        rows=rows,
    )
    return source, task.encode(rows, processor)
