"""A run whose training rows are streamed, from the recipe to the bundle, on Ray Train."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ray_sft.bundle import Bundle
from ray_sft.pipeline import Pipeline
from ray_sft.recipe import load_recipe
from ray_sft.report import write_report
from ray_sft.resolve import check_recipe
from ray_sft.run_folder import RunFolder
from ray_sft.show import ProgressWatcher, show_recipe
from ray_sft.show_data import show_data
from tests.e2e.tiny_run import tiny_recipe, write_many, write_tiny_run

RECIPE = tiny_recipe(
    "steps: 12, window: 20, tokens_per_step: 128, workers: 2, learning_rate: 2.0e-3",
    rows="many.csv",
)


@pytest.mark.ray
@pytest.mark.timeout(280)
@pytest.mark.usefixtures("local_ray")
def test_a_streamed_run_trains_on_window_after_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write_tiny_run(tmp_path, RECIPE)
    write_many(tmp_path, 50)
    recipe, screen = check_recipe(load_recipe("recipe.yaml")), Console(file=io.StringIO(), width=99)
    show_recipe(screen, recipe)
    folder = RunFolder(tmp_path / "runs" / "tiny")
    with ProgressWatcher(Console(file=io.StringIO())) as watcher:
        pipeline = Pipeline(recipe, folder, watcher)
        bundle = pipeline.train()
    write_report(folder, recipe.name, pipeline.reports)
    show_data(screen, pipeline.reports, folder.rejected)
    shown = screen.file.getvalue()
    assert "12 steps on windows of 20 rows" in " ".join(shown.split())
    assert "train, first 20 rows" in shown
    assert "train, first 20 rows" in (folder.path / "report.html").read_text(encoding="utf-8")

    lines = (folder.train_dir("trained") / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    windows = [record["window"] for record in records if record["event"] == "step"]
    assert len(windows) == 12
    assert windows == sorted(windows)
    assert len(set(windows)) == windows[-1] >= 3, "more than a pass of 20, 20 and 10 rows"
    ends = [step + 1 for step in range(11) if windows[step] < windows[step + 1]]
    assert [r["step"] for r in records if r["event"] == "evaluation"] == [*ends, 12]
    found = [json.loads(line) for line in folder.rejected.read_text().splitlines()]
    assert [line["row"] for line in found] == [9, 19, 29, 39, 49]
    rows = folder.data_dir("trained") / "topic" / "train"
    assert not list((rows / "windows").glob("0*")), "what was read is removed"
    assert Bundle.open(bundle.path).manifest.metrics["topic/accuracy"] >= 0
