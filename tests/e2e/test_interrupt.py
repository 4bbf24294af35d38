"""Ctrl-C in the middle of a run leaves nothing behind, and the next run goes on from there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.tiny_run import tiny_recipe, write_tiny_run

RECIPE = tiny_recipe(
    "epochs: 300, tokens_per_step: 64, checkpoint_every: 100, evaluate_every: 100000, workers: 1"
)


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ray_sft.cli", "run", "recipe.yaml", *overrides]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def steps(folder: Path) -> list[dict]:
    path = folder / "runs" / "tiny" / "train" / "trained" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def wait_for(condition, *, timeout_s: float, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "it did not come so far"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(280)
def test_ctrl_c_leaves_nothing_and_the_next_run_resumes(tmp_path: Path) -> None:
    write_tiny_run(tmp_path, RECIPE)
    folder = tmp_path / "runs" / "tiny"
    snapshots = folder / "train" / "trained"

    process = start(tmp_path)
    wait_for(
        lambda: list(snapshots.glob("run-*/checkpoint_manager_snapshot.json")),
        timeout_s=120,
        process=process,
    )
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 130, output
    assert "run the same command again to go on" in output
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert not list((folder / "bundles").glob("*")), "no bundle, not even a part of one"
    assert not (folder / "stages" / "train-trained.json").exists()

    process = start(tmp_path)
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 0, output
    starts = [record["step"] for record in steps(tmp_path) if record["event"] == "start"]
    assert len(starts) == 2
    assert starts[0] == 0
    assert starts[1] >= 100
    assert (folder / "bundles" / "trained" / "manifest.json").is_file()
