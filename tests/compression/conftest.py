"""A tiny classifier and a tiny decoder as bundles, with examples to evaluate them on."""

import sys

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from ray_sft.bundle import Bundle, BundleWriter, Manifest
from ray_sft.bundle.manifest import MANIFEST
from ray_sft.compression import Compress, ExportOnnx, PassContext, StepReport, compress
from ray_sft.compression.base import NO_CONTEXT
from ray_sft.inference import Predictor, record_samples
from ray_sft.models import HeadedEncoder, train_tokenizer
from ray_sft.tasks import (
    CausalClozeClassification,
    CausalLanguageModel,
    Embedding,
    Example,
    SequenceClassification,
)
from tests.small_disk import small_disk

__all__ = ["small_disk"]


@pytest.fixture(autouse=True, scope="session")
def few_rounds():
    """Models are timed in three rounds, where nothing is claimed about their speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["ray_sft.compression.measure"], "_ROUNDS", 3)
        yield


LABELS = ("card", "parcel", "refund", "transfer")
NOUNS = ("card", "parcel", "refund", "transfer", "account", "invoice")
TEXTS = [
    f"{opening} {noun} {ending}"
    for opening in ("Where is my", "I have a question about the", "Cancel the")
    for noun in NOUNS
    for ending in ("?", "please", "that I ordered last week, it has not come")
]


def write_bundle(path, *, name, task, model, processor, rows) -> Bundle:
    with BundleWriter(path) as out:
        model.save_pretrained(out.model_dir)
        processor.save_pretrained(out.processor_dir)
        manifest = Manifest(name=name, variant="trained", format="torch", tasks={name: task})
        predictor = Predictor(out.draft(manifest))
        out.write_samples(record_samples(predictor, rows))
        return out.finish(manifest)


@pytest.fixture(scope="session")
def processor():
    return train_tokenizer(TEXTS * 5, vocab_size=400)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory, processor) -> Bundle:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(processor),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        initializer_range=0.1,
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
def intents(classifier, processor) -> dict[str, list[Example]]:
    rows = [{"text": text, "label": LABELS[i % 4]} for i, text in enumerate(TEXTS)]
    return {"intent": classifier.task.encode(rows, processor)}


def decoder_model(processor, **options) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            **{
                "vocab_size": len(processor),
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 256,
                "initializer_range": 0.2,
                "bos_token_id": processor.bos_token_id,
                "eos_token_id": processor.eos_token_id,
                "pad_token_id": processor.pad_token_id,
                "tie_word_embeddings": False,
            }
            | options
        )
    )


@pytest.fixture(scope="session")
def make_decoder(tmp_path_factory, processor):
    def make(**options) -> Bundle:
        turns = [
            {"messages": [{"role": "user", "content": one}, {"role": "assistant", "content": two}]}
            for one, two in zip(TEXTS, reversed(TEXTS), strict=True)
        ]
        return write_bundle(
            tmp_path_factory.mktemp("bundles") / "trained",
            name="reply",
            task=CausalLanguageModel(max_length=96),
            model=decoder_model(processor, **options),
            processor=processor,
            rows=turns,
        )

    return make


@pytest.fixture(scope="session")
def decoder(make_decoder) -> Bundle:
    return make_decoder()


@pytest.fixture(scope="session")
def exported_decoder(decoder, tmp_path_factory) -> Bundle:
    """The decoder as a graph in fp32."""
    bundle, _ = apply(ExportOnnx(), decoder, tmp_path_factory.mktemp("onnx") / "onnx")
    manifest = bundle.manifest.model_copy(update={"format": "onnx"})
    (bundle.path / MANIFEST).write_text(manifest.model_dump_json())
    return Bundle.open(bundle.path)


@pytest.fixture(scope="session")
def choosing_decoder(tmp_path_factory, processor) -> Bundle:
    """A decoder that gives a text a label, by the word behind a pattern."""
    return write_bundle(
        tmp_path_factory.mktemp("bundles") / "trained",
        name="intent",
        task=CausalClozeClassification(labels=LABELS),
        model=decoder_model(processor),
        processor=processor,
        rows=[{"text": text} for text in TEXTS],
    )


@pytest.fixture(scope="session")
def own_words(processor) -> dict[str, list[Example]]:
    """What the decoder says itself: its loss there is low, and any change of weights raises it."""
    ids = torch.arange(6, 38)[:, None]
    tokens = decoder_model(processor).generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=40,
        do_sample=False,
        eos_token_id=-1,
    )
    arrays = [row.numpy().astype(np.int32) for row in tokens]
    return {"reply": [Example({"input_ids": row, "labels": row}, len(row)) for row in arrays]}


@pytest.fixture(scope="session")
def make_encoder(tmp_path_factory, processor):
    """Writes a classifier with as many layers as asked for, changed by ``edit``."""

    def make(*, num_layers=4, edit=lambda _: None) -> Bundle:
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(processor),
            hidden_size=64,
            num_hidden_layers=num_layers,
            num_attention_heads=2,
            intermediate_size=128,
            initializer_range=0.1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            num_labels=len(LABELS),
        )
        model = BertForSequenceClassification(config).eval()
        edit(model)
        return write_bundle(
            tmp_path_factory.mktemp("bundles") / "trained",
            name="intent",
            task=SequenceClassification(labels=LABELS),
            model=model,
            processor=processor,
            rows=[{"text": text} for text in TEXTS],
        )

    return make


@pytest.fixture(scope="session")
def two_heads(tmp_path_factory, processor) -> Bundle:
    """A classifier and an embedding on one backbone of three layers."""
    torch.manual_seed(0)
    tasks = {"intent": SequenceClassification(labels=LABELS), "vector": Embedding()}
    config = BertConfig(
        vocab_size=len(processor),
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=128,
        initializer_range=0.1,
    )
    with BundleWriter(tmp_path_factory.mktemp("bundles") / "trained") as out:
        HeadedEncoder(BertModel(config), tasks).save_pretrained(out.model_dir)
        processor.save_pretrained(out.processor_dir)
        manifest = Manifest(name="both", variant="trained", format="torch", tasks=tasks)
        predictors = Predictor.each(out.draft(manifest))
        out.write_samples(
            sample
            for predictor in predictors.values()
            for sample in record_samples(predictor, [{"text": text} for text in TEXTS])
        )
        return out.finish(manifest)


def run_chain(passes, source, examples, folder) -> list[StepReport]:
    """A chain on rows that are those of training, too, whatever its speed."""
    return compress(
        Compress(passes=passes, min_speedup=0.0),
        source,
        examples=examples,
        out_dir=folder,
        num_threads=1,
        progress=lambda _: None,
        context=PassContext(examples),
    )


def apply(step, source: Bundle, path, context=NO_CONTEXT) -> tuple[Bundle, dict]:
    """The bundle that a pass makes, and what it tells."""
    with BundleWriter(path) as out:
        out.copy_processor(source)
        result = step.apply(source, out, context)
        out.write_samples(source.samples())
        manifest = source.manifest.model_copy(update={"variant": step.variant, "files": {}})
        return out.finish(manifest), dict(result.properties)
