"""A chain that drops layers, distils, exports and quantizes: run, interrupted, and gone on with."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from ray_sft.bundle import Bundle
from ray_sft.opened_run import open_run, report_run
from ray_sft.run_folder import served_bundles
from tests.e2e.tiny_run import write_tiny_run

RECIPE = """
name: chain
model: model
tasks: {topic: {kind: sequence_classification}}
data:
  topic:
    train: {source: csv, path: rows.csv}
    eval: {source: csv, path: rows.csv}
quality: {mask: [email]}
augment: [{kind: eda}]
train: {epochs: 4, tokens_per_step: 64, workers: 1}
compress:
  passes:
    - {kind: drop_layers, keep: 1}
    - {kind: distil, epochs: 6}
    - {kind: export_onnx}
    - {kind: quantize_int8}
  budget: {accuracy: -1}
  min_speedup: 0
"""


def run() -> None:
    console = Console(file=io.StringIO())
    with open_run(console, "recipe.yaml", [], Path("runs")) as pipeline:
        pipeline.compress(pipeline.train())
    report_run(console, pipeline)


@pytest.mark.ray
@pytest.mark.timeout(840)
@pytest.mark.usefixtures("local_ray")
def test_a_chain_runs_whole_and_goes_on_where_it_was_killed(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    caplog.set_level("INFO", "ray_sft")
    monkeypatch.chdir(tmp_path)
    write_tiny_run(tmp_path, RECIPE)
    with (tmp_path / "rows.csv").open("a", encoding="utf-8") as file:
        file.write("please ask jo@example.com for my card,card\n")
    run()
    folder = tmp_path / "runs" / "chain"
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert any(b"[EMAIL]" in content for content in files)
    assert not any(b"jo@example.com" in content for content in files)
    report = json.loads((folder / "report.json").read_text())
    variants = ["trained", "drop_layers", "distil", "onnx", "int8"]
    stages = [row["stage"] for row in report["stages"] if row["stage"].startswith("bundle-")]
    assert stages == [f"bundle-{variant}" for variant in variants]
    bundles = {variant: Bundle.open(folder / "bundles" / variant) for variant in variants}
    for variant, former in zip(variants[1:], variants, strict=False):
        assert bundles[variant].manifest.parent == bundles[former].fingerprint
    fingerprints = {name: one.weights_fingerprint for name, one in bundles.items()}
    assert len(set(fingerprints.values())) == len(variants)
    assert served_bundles([folder]) == {"chain": str(folder / "bundles" / "int8")}

    # as if it had been killed after the last checkpoint of the student
    (folder / "stages" / "compress.json").unlink()
    for variant in ("distil", "onnx", "int8"):
        shutil.rmtree(folder / "bundles" / variant)
    caplog.clear()
    run()
    assert "drop_layers (1 of 4), already done" in caplog.messages
    assert "distil (2 of 4)" in caplog.messages
    assert any("resumed at step" in message for message in caplog.messages)
    for variant in variants:
        rewritten = Bundle.open(folder / "bundles" / variant)
        assert rewritten.weights_fingerprint == fingerprints[variant], variant
