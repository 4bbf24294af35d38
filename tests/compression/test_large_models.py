"""A graph over 2 GB, which protocol buffers cannot hold in one file. Minutes: `make test-slow`."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from ray_sft.compression import ExportOnnx, QuantizeInt8
from ray_sft.compression.gates import logit_difference
from ray_sft.compression.graph import operators
from ray_sft.inference import Predictor
from ray_sft.tasks import SequenceClassification
from tests.compression.conftest import LABELS, TEXTS, apply, write_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TIMES_THE_WEIGHTS = 5
"""What export and quantization may hold in memory, measured: 3.1 and 4.0."""


@contextmanager
def within(limit: float) -> Iterator[None]:
    """Fails where this process and its children grow by more bytes than ``limit``."""
    process, peak, is_over = psutil.Process(), 0, threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not is_over.is_set():
            every = (process, *process.children(recursive=True))
            peak = max(peak, sum(one.memory_info().rss for one in every if one.is_running()))
            time.sleep(0.1)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    print(f"grew by {(peak - before) / 1e9:.2f} GB of {limit / 1e9:.2f}")
    assert peak - before < limit


def test_an_encoder_over_2_gb_is_exported_and_quantized(processor, tmp_path):
    config = BertConfig(
        vocab_size=len(processor),
        hidden_size=1024,
        num_hidden_layers=26,
        num_attention_heads=16,
        intermediate_size=8192,
        num_labels=len(LABELS),
    )
    torch.manual_seed(0)
    source = write_bundle(
        tmp_path / "trained",
        name="intent",
        task=SequenceClassification(labels=LABELS),
        model=BertForSequenceClassification(config),
        processor=processor,
        rows=[{"text": text} for text in TEXTS],
    )
    assert source.num_bytes > 2**31
    limit = TIMES_THE_WEIGHTS * source.num_bytes
    with within(limit):
        exported, _ = apply(ExportOnnx(), source, tmp_path / "onnx")
    assert {path.name for path in exported.model_dir.iterdir()} == {"model.onnx", "model.onnx.data"}
    manifest = exported.manifest.model_copy(update={"format": "onnx"})
    exported = replace(exported, manifest=manifest)
    requests = [sample["request"] for sample in source.samples()][:4]
    assert logit_difference(Predictor(source), Predictor(exported), requests) <= 1e-4
    with within(limit):
        small, _ = apply(QuantizeInt8(), exported, tmp_path / "int8")
    assert small.num_bytes < 0.3 * exported.num_bytes
    assert "DynamicQuantizeMatMul" in operators(small.model_dir)
