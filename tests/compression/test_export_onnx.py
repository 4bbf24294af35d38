import json
from collections import Counter
from dataclasses import replace

import onnx
import pytest
from transformers import LongformerConfig, LongformerForSequenceClassification

from ray_sft.bundle import Bundle, BundleWriter
from ray_sft.bundle.manifest import MANIFEST
from ray_sft.compression import Compress, ExportOnnx, compress
from ray_sft.core import BundleError, CompressionError
from ray_sft.inference import (
    GenerationEngine,
    PagedEngine,
    Predictor,
    decoder_device,
    missing_for_cuda,
    open_engine,
)
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


@pytest.mark.parametrize(("dtype", "product"), [("bf16", "MatMul"), ("int4", "MatMulNBits")])
def test_a_decoder_for_cuda_keeps_keys_and_values_in_pages(decoder, tmp_path, dtype, product):
    """The builder needs no device, so that its graph can be looked at anywhere."""
    step = ExportOnnx(device="cuda", dtype=dtype)
    bundle, properties = apply(step, decoder, tmp_path / "cuda")
    graph = onnx.load(bundle.model_dir / "model.onnx").graph
    counts = Counter(node.op_type for node in graph.node)
    config = json.loads((decoder.model_dir / "config.json").read_text(encoding="utf-8"))
    assert counts["PagedAttention"] == config["num_hidden_layers"]
    assert counts["GroupQueryAttention"] == 0
    assert counts[product] > 0
    inputs = {entry.name: entry.type.tensor_type.elem_type for entry in graph.input}
    assert {"block_table", "cumulative_sequence_lengths", "past_sequence_lengths"} <= set(inputs)
    kind = {"bf16": onnx.TensorProto.BFLOAT16, "int4": onnx.TensorProto.FLOAT16}[dtype]
    assert inputs["past_key_values.0.key"] == kind
    assert decoder_device(bundle.model_dir) == "cuda"
    assert properties == {"device": "cuda", "dtype": dtype}
    assert (step.made_precision, step.keeps_outputs) == (
        {"bf16": "half", "int4": "int4"}[dtype],
        False,
    )


def test_a_decoder_for_processors_is_recorded_as_such(exported_decoder):
    assert decoder_device(exported_decoder.model_dir) == "cpu"
    assert (ExportOnnx().made_precision, ExportOnnx().keeps_outputs) == ("fp32", True)


@pytest.mark.skipif(not missing_for_cuda(), reason="this host has CUDA")
def test_a_graph_for_cuda_is_refused_before_any_work_where_it_cannot_be_measured(decoder, tmp_path):
    config = Compress(passes=(ExportOnnx(device="cuda", dtype="bf16"),))
    match = r"has to be measured.*onnxruntime-genai-cuda==.*leave device out"
    with pytest.raises(CompressionError, match=match):
        compress(
            config, decoder, examples={}, out_dir=tmp_path, num_threads=1, progress=lambda _: None
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not missing_for_cuda(), reason="this host has CUDA")
def test_nothing_runs_a_graph_for_cuda_elsewhere(decoder, tmp_path):
    """Each says what is missing, instead of ONNX Runtime's own words about a kernel."""
    bundle, _ = apply(ExportOnnx(device="cuda", dtype="fp16"), decoder, tmp_path / "cuda")
    manifest = bundle.manifest.model_copy(update={"format": "onnx"})
    (bundle.path / MANIFEST).write_text(manifest.model_dump_json())
    bundle = Bundle.open(bundle.path)
    match = r"is for CUDA: the installed onnxruntime-genai .*device: cpu"
    for opens in (Predictor, open_engine, PagedEngine):
        with pytest.raises(BundleError, match=match):
            opens(bundle)
    with pytest.raises(BundleError, match="is for CUDA: PagedEngine"):
        GenerationEngine(bundle)


def test_only_a_decoder_is_exported_for_cuda(classifier):
    with pytest.raises(CompressionError, match=r"device: cuda is for decoders.*sequence"):
        ExportOnnx(device="cuda", dtype="fp16").check(classifier)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"device": "cuda"}, "computes in 16 bits.*bf16, fp16 or int4"),
        ({"dtype": "int4"}, "dtype is int4.*quantize_"),
    ],
)
def test_a_dtype_that_the_device_does_not_have_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        ExportOnnx(**options)
