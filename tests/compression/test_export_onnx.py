import json
from dataclasses import replace

import onnx
import pytest
from transformers import LongformerConfig, LongformerForSequenceClassification

from ray_sft.bundle import Bundle, BundleWriter
from ray_sft.compression import ExportOnnx
from ray_sft.core import CompressionError
from ray_sft.tasks import SequenceClassification
from tests.compression.conftest import LABELS, TEXTS, apply, write_bundle


def with_config(bundle, folder, **changes) -> Bundle:
    (folder / "model").mkdir()
    config = json.loads((bundle.model_dir / "config.json").read_text(encoding="utf-8"))
    text = json.dumps(config | changes)
    (folder / "model" / "config.json").write_text(text, encoding="utf-8")
    return replace(bundle, path=folder)


def test_an_architecture_without_builder_is_named_with_those_that_have_one(decoder, tmp_path):
    source = with_config(decoder, tmp_path, architectures=["GPT2LMHeadModel"])
    with pytest.raises(CompressionError, match=r"GPT2LMHeadModel.*LlamaForCausalLM"):
        ExportOnnx().check(source)


def test_a_head_size_that_the_kernel_does_not_take_is_refused(decoder, tmp_path):
    source = with_config(decoder, tmp_path, head_dim=24)
    with pytest.raises(CompressionError, match=r"size 24.*multiple of 16"):
        ExportOnnx().check(source)


def test_a_head_size_that_follows_from_the_width_is_checked_too(make_decoder):
    source = make_decoder(num_attention_heads=8, num_key_value_heads=2)
    with pytest.raises(CompressionError, match=r"size 8.*multiple of 16"):
        ExportOnnx().check(source)


def test_an_export_that_takes_too_long_is_stopped(decoder, tmp_path):
    with (
        BundleWriter(tmp_path / "onnx") as out,
        pytest.raises(CompressionError, match=r"within 0\.1 s"),
    ):
        ExportOnnx(time_limit_s=0.1).apply(decoder, out)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_builder_is_reported_with_its_reason(decoder, tmp_path):
    source = with_config(decoder, tmp_path, architectures=["LlamaForCausalLM"])
    (tmp_path / "processor").mkdir()  # neither weights nor tokenizer
    with (
        BundleWriter(tmp_path / "onnx") as out,
        pytest.raises(CompressionError, match=r"builder failed: .+"),
    ):
        ExportOnnx().apply(source, out)


def test_attention_splits_its_heads_by_itself(classifier, tmp_path):
    with BundleWriter(tmp_path / "onnx") as out:
        ExportOnnx().apply(classifier, out)
        nodes = onnx.load(out.model_dir / "model.onnx", load_external_data=False).graph.node
        attentions = [node for node in nodes if node.op_type == "Attention"]
        config = json.loads((classifier.model_dir / "config.json").read_text(encoding="utf-8"))
        assert len(attentions) == config["num_hidden_layers"]
        for node in attentions:
            heads = {a.name: a.i for a in node.attribute if a.name.endswith("num_heads")}
            wanted = config["num_attention_heads"]
            assert heads == {"q_num_heads": wanted, "kv_num_heads": wanted}
        assert "Transpose" not in {node.op_type for node in nodes}


def test_an_encoder_that_cannot_be_traced_is_told_with_those_that_can(processor, tmp_path):
    config = LongformerConfig(
        vocab_size=len(processor),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        attention_window=[8],
        num_labels=len(LABELS),
        pad_token_id=processor.pad_token_id,
    )
    source = write_bundle(
        tmp_path / "trained",
        name="intent",
        task=SequenceClassification(labels=LABELS),
        model=LongformerForSequenceClassification(config),
        processor=processor,
        rows=[{"text": text} for text in TEXTS],
    )
    match = r"(?s)cannot trace LongformerForSequenceClassification: .*Families that it can: BERT"
    with pytest.raises(CompressionError, match=match):
        apply(ExportOnnx(), source, tmp_path / "onnx")
