"""A search over a tiny run: what it tries, what it finds, and that it goes on."""

import io
import json
from pathlib import Path

import pytest
import ray.tune
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console

from ray_sft.core import ConfigError
from ray_sft.pipeline import Pipeline
from ray_sft.ray_search import run_trials
from ray_sft.recipe import load_recipe
from ray_sft.resolve import check_recipe
from ray_sft.run_folder import RunFolder
from ray_sft.show import ProgressWatcher
from ray_sft.tune_report import show_search, write_search
from ray_sft.tuning import Trial, search
from tests.e2e.tiny_run import write_tiny_run

RECIPE = """
name: searched
model: model
tasks: {topic: {kind: sequence_classification}}
data:
  topic:
    train: {source: csv, path: rows.csv}
    eval: {source: csv, path: rows.csv}
train: {epochs: 4, tokens_per_step: 64, workers: 1}
tune:
  trials: 3
  space:
    train.learning_rate: {kind: log_uniform, low: 1.0e-5, high: 1.0e-1}
    objectives: {kind: choice, values: [[], [{kind: label_smoothing}]]}
"""

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420), pytest.mark.usefixtures("local_ray")]


def run(*overrides: str) -> tuple[list[Trial], Pipeline]:
    resolved = check_recipe(load_recipe("recipe.yaml", overrides))
    with ProgressWatcher(Console(file=io.StringIO())) as watcher:
        pipeline = Pipeline(resolved, RunFolder(Path("runs/searched")), watcher)
        trials, figure = search(pipeline)
    assert figure == "accuracy"
    return trials, pipeline


@pytest.mark.slow
def test_a_search_finds_settings_and_is_not_run_again(tmp_path: Path, monkeypatch, caplog):
    caplog.set_level("INFO", "ray_sft.tuning")
    monkeypatch.chdir(tmp_path)
    write_tiny_run(tmp_path, RECIPE)
    trials, pipeline = run()
    assert len(trials) == 3
    last = [trial.figures[-1] for trial in trials]
    assert last == sorted(last, reverse=True)
    rates = [trial.changes["train.learning_rate"] for trial in trials]
    assert len(set(rates)) == 3
    assert all(1e-5 <= rate <= 1e-1 for rate in rates)
    assert all(
        trial.changes["objectives"] in ([], [{"kind": "label_smoothing"}]) for trial in trials
    )
    notes = [line for line in caplog.messages if line.startswith("trial ")]
    assert len(notes) == sum(len(trial.figures) for trial in trials)
    folder = tmp_path / "runs" / "searched" / "tune"
    assert not list(folder.rglob("*.pt")), "checkpoints of trials are not kept"

    best = write_search(folder, pipeline.recipe, trials, "accuracy")
    tree = json.loads((folder / "tune.json").read_text())
    assert [row["accuracy"] for row in tree["trials"]] == last
    assert (folder / "tune.html").read_text().count("<svg") == 2
    screen = Console(file=io.StringIO(), width=120)
    show_search(screen, trials, "accuracy")
    assert "the best of 3 trials" in screen.file.getvalue()
    found = load_recipe(str(best))
    assert found.train.learning_rate == rates[0]
    assert found.tune is None

    caplog.clear()
    again, _ = run()
    assert [(trial.changes, trial.figures) for trial in again] == [
        (trial.changes, trial.figures) for trial in trials
    ]
    assert not any(line.startswith("trial ") for line in caplog.messages)


def test_a_space_with_a_value_that_no_recipe_takes_is_refused_before_training(
    tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_tiny_run(tmp_path, RECIPE)
    with pytest.raises(ConfigError, match=r"train\.beta1"):
        run("tune.space={train.beta1: {kind: uniform, low: 0.5, high: 2}}")
    with pytest.raises(ConfigError, match="'adapter' would change the prompt"):
        run("tune.space={adapter: {kind: choice, values: [null, {kind: prompt_tuning}]}}")
    with pytest.raises(ConfigError, match="the recipe has no tune"):
        run("tune=null")
    assert not (tmp_path / "runs" / "searched" / "tune").exists()


class Silent(ray.tune.Callback):
    pass


def fail_above(config, *, job):
    if config["place"] > job:
        raise ValueError("too high")
    ray.tune.report({"figure": config["place"]})


@pytest.mark.slow
def test_a_search_with_a_failed_trial_can_be_gone_on_with(tmp_path: Path):
    def search_once():
        return run_trials(
            fail_above,
            1,
            folder=tmp_path,
            name="search",
            space={"place": ray.tune.randint(0, 4)},
            metric="figure",
            mode="max",
            num_trials=3,
            concurrent=1,
            searcher=OptunaSearch(points_to_evaluate=[{"place": n} for n in (0, 3, 1)]),
            callback=Silent(),
        )

    for _ in range(2):
        results = search_once()
        assert len(results) == 3
        assert "too high" in str(results.errors[0])
        assert len(results.errors) == 1
        assert results.get_best_result().config == {"place": 1}
