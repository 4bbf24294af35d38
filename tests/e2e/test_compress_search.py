"""A search for a smaller model of a tiny run: found, gone on with, interrupted, and in vain."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ray_sft.bundle import Bundle, BundleWriter, Manifest
from ray_sft.compress_search import SearchSettings
from ray_sft.core import CompressionError
from ray_sft.inference import Predictor, record_samples
from ray_sft.opened_run import compress_bundle
from ray_sft.recipe import load_recipe
from ray_sft.resolve import check_recipe
from ray_sft.run_folder import served_bundles
from tests.e2e.tiny_run import tiny_recipe, write_tiny_run
from tests.factories import LABELS, TEXTS, tiny_encoder, tiny_processor

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420), pytest.mark.usefixtures("local_ray")]

TRAINED = Path("runs/tiny/bundles/trained")


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory) -> Path:
    """Of a run that has left a bundle."""
    path = tmp_path_factory.mktemp("search")
    write_tiny_run(path, tiny_recipe("epochs: 4, tokens_per_step: 64, workers: 1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        recipe = check_recipe(load_recipe("recipe.yaml", []))
        with BundleWriter(TRAINED) as out:
            tiny_encoder(len(LABELS)).save_pretrained(out.model_dir)
            tiny_processor().save_pretrained(out.processor_dir)
            manifest = Manifest(
                name=recipe.name,
                variant="trained",
                format="torch",
                tasks=recipe.tasks,
                recipe=recipe.model_dump(mode="json"),
            )
            rows = [{"text": text} for text in TEXTS]
            out.write_samples(record_samples(Predictor(out.draft(manifest)), rows))
            out.finish(manifest)
        yield path


def search(*, trials: int, **budget: float) -> str:
    """What is shown of a search for the smallest model."""
    settings = SearchSettings(budget=budget, target="size", trials=trials, epochs=2)
    screen = Console(file=io.StringIO(), width=160)
    compress_bundle(screen, TRAINED, [], settings, runs_dir=Path("runs"))
    return screen.file.getvalue()


def found(folder: Path) -> dict:
    return json.loads((folder / "runs" / "tiny" / "search" / "search.json").read_text())


def test_a_search_publishes_the_best_and_is_not_run_again(folder: Path, caplog):
    caplog.set_level("INFO", "ray_sft.compress_search")
    shown = search(trials=1, accuracy=-1)
    assert "1 models, the best in size first" in shown
    assert any(line.startswith("trial 1 of 1: all layers, int8: ") for line in caplog.messages)
    tree = found(folder)
    (best,) = tree["tried"]
    assert best["candidate"]["layers"] == 0
    assert [report["name"] for report in best["reports"]] == [
        *("source", "export_onnx", "quantize_int8")
    ]
    bundle = Bundle.open(folder / "runs" / "tiny" / "bundles" / "compressed")
    assert str(bundle.path) == tree["bundle"]
    assert bundle.manifest.parent == Bundle.open(TRAINED).fingerprint
    assert bundle.manifest.metrics == best["reports"][-1]["metrics"]
    assert served_bundles([Path("runs/tiny")]) == {"tiny": str(bundle.path)}
    page = (folder / "runs" / "tiny" / "search" / "search.html").read_text()
    assert page.count("<svg") == 1
    pool = folder / "runs" / "tiny" / "search" / "candidates"
    assert {path.name.split("-")[0] for path in pool.glob("*/*-*")} == {"int8"}

    caplog.clear()
    search(trials=1, accuracy=-1)
    assert not any(line.startswith("trial ") for line in caplog.messages)
    assert found(folder)["tried"] == tree["tried"]


@pytest.mark.slow
def test_more_trials_go_on_from_those_before_and_students_are_shared(folder: Path, caplog):
    caplog.set_level("INFO", "ray_sft.compress_search")
    search(trials=2, accuracy=-1)
    assert "1 of 2 models were tried before" in caplog.messages
    tree = found(folder)
    assert sorted(row["candidate"]["layers"] for row in tree["tried"]) == [0, 1]
    best = tree["tried"][0]
    assert best["size_gain"] == max(row["size_gain"] for row in tree["tried"]) > 1
    assert [report["name"] for report in best["reports"]] == [
        *("source", "drop_layers", "distil", "export_onnx", "quantize_int8")
    ]
    # by another budget, the students are there already
    (student,) = (folder / "runs" / "tiny" / "search" / "candidates").glob("*/distil-*")
    written = Bundle.open(student).fingerprint
    search(trials=2, accuracy=-0.9)
    assert Bundle.open(student).fingerprint == written
    assert len(found(folder)["tried"]) == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_search_that_was_killed_goes_on_with_what_it_was_at(folder: Path):
    options = ["--budget", "accuracy=-0.8", "--target", "size", "--epochs", "40", "--trials", "2"]
    command = [sys.executable, "-m", "ray_sft.cli", "compress", str(TRAINED), *options]
    search_dir = folder / "runs" / "tiny" / "search"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(lambda: any(search_dir.glob("train/*/run-*/checkpoint_*")), process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (begun,) = search_dir.glob("tried/*/*.begun")
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 models were tried before" in done.stdout
    assert begun.with_suffix(".json").is_file()
    assert not begun.exists()
    assert len(found(folder)["tried"]) == 2


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_budget_that_nothing_keeps_is_missed_by_so_much_and_the_nearest_is_kept(folder: Path):
    with pytest.raises(CompressionError, match=r"none of 1 models keeps.*misses topic/loss by"):
        search(trials=1, loss=0.0)
    (row,) = found(folder)["tried"]
    assert row["misses"]["topic/loss"] > 0
    assert Bundle.open(row["reports"][-1]["path"]).manifest.properties["precision"] == "int8"


def test_a_search_that_cannot_begin_is_refused(folder: Path):
    with pytest.raises(CompressionError, match=r"compress\.budget names 'acuracy'"):
        search(trials=1, acuracy=-0.01)
    path, *_ = (folder / "runs" / "tiny" / "search" / "candidates").glob("*/int8-*")
    settings = SearchSettings(trials=1)
    with pytest.raises(CompressionError, match="is compressed already"):
        compress_bundle(Console(file=io.StringIO()), path, [], settings, runs_dir=Path("runs"))
