"""Tiny real models: a classifier and a decoder as torch bundles, the decoder also as ONNX."""

from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
)

from ray_sft.bundle import Bundle, BundleWriter, Manifest
from ray_sft.compression import ExportOnnx
from ray_sft.inference import Predictor, record_samples
from ray_sft.models import train_tokenizer
from ray_sft.tasks import CausalLanguageModel, SequenceClassification

TEXTS = [
    "Where is my parcel? It was due on Monday 12 May.",
    "I want a refund.",
    "My card was declined twice in the shop today, please help me with it.",
    "转账还没有到账，请帮我查一下。",
    "Thanks, that solved it! \U0001f600",
    "Close my account",
]
LABELS = ("account", "card", "parcel", "refund", "transfer")


def write_bundle(path, *, name, task, model, processor, rows):
    with BundleWriter(path) as out:
        model.save_pretrained(out.model_dir)
        processor.save_pretrained(out.processor_dir)
        manifest = Manifest(name=name, variant="trained", format="torch", tasks={name: task})
        predictor = Predictor(out.draft(manifest))
        out.write_samples(record_samples(predictor, rows))
        return out.finish(manifest)


@pytest.fixture(scope="session")
def processor():
    return train_tokenizer(TEXTS * 20, vocab_size=420)


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


@pytest.fixture(scope="session")
def classifier(tmp_path_factory, processor) -> Bundle:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(processor),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.3,
        num_labels=len(LABELS),
    )
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "trained",
        name="intent",
        task=SequenceClassification(labels=LABELS),
        model=BertForSequenceClassification(config),
        processor=processor,
        rows=[{"text": text} for text in TEXTS],
    )


@pytest.fixture(scope="session")
def decoder(tmp_path_factory, processor) -> Bundle:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(processor),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,  # far from flat, so that no two tokens are nearly equal
        bos_token_id=processor.bos_token_id,
        eos_token_id=processor.eos_token_id,
        pad_token_id=processor.pad_token_id,
        tie_word_embeddings=False,
    )
    turns = [
        {"messages": [{"role": "user", "content": one}, {"role": "assistant", "content": two}]}
        for one, two in zip(TEXTS, reversed(TEXTS), strict=True)
    ]
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "trained",
        name="reply",
        task=CausalLanguageModel(max_length=128),
        model=LlamaForCausalLM(config),
        processor=processor,
        rows=turns,
    )


def export(source: Bundle, path: Path) -> Bundle:
    with BundleWriter(path) as out:
        out.copy_processor(source)
        ExportOnnx().apply(source, out)
        out.write_samples(source.samples())
        update = {"format": "onnx", "variant": "onnx", "files": {}}
        return out.finish(source.manifest.model_copy(update=update))


@pytest.fixture(scope="session")
def onnx_classifier(tmp_path_factory, classifier) -> Bundle:
    return export(classifier, tmp_path_factory.mktemp("bundles") / "onnx")


@pytest.fixture(scope="session")
def onnx_decoder(tmp_path_factory, decoder) -> Bundle:
    return export(decoder, tmp_path_factory.mktemp("bundles") / "onnx")
