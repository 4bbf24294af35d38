"""A model learns new labels from new rows, on top of what its bundle has learned."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from ray_sft.bundle import Bundle
from ray_sft.core import ConfigError, DataError
from ray_sft.inference import Predictor
from ray_sft.pipeline import Pipeline
from ray_sft.recipe import load_recipe
from ray_sft.report import write_report
from ray_sft.resolve import check_recipe
from ray_sft.run_folder import RunFolder, StageReport
from ray_sft.show import ProgressWatcher, show_reports
from tests.factories import LABELS, TEXTS, tiny_encoder, tiny_processor

RECIPE = """
name: NAME
model: MODEL
tasks: {topic: {kind: sequence_classification}}
data:
  topic:
    train: {source: csv, path: NAME.csv}
    eval: {source: csv, path: NAME.csv}
train:
  {steps: 30, evaluate_every: 30, checkpoint_every: 30, tokens_per_step: 64, workers: 1,
   learning_rate: 5.0e-3}
"""
CONTINUAL = """
continual: {replay: 1.0, ewc: {rows: 8, weight: 0.1}, learning_without_forgetting: {weight: 0.1}}
"""
NAMES = ("first", "second")
MOOD = "data={mood: {train: {source: csv, path: first.csv}, eval: {source: csv, path: first.csv}}}"

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]


def run(recipe: str) -> tuple[dict[str, StageReport], str]:
    """The reports by stage, and what a person sees at the end."""
    resolved = check_recipe(load_recipe(recipe))
    folder, screen = RunFolder(Path("runs") / resolved.name), Console(file=io.StringIO(), width=120)
    with ProgressWatcher(screen) as watcher:
        pipeline = Pipeline(resolved, folder, watcher)
        pipeline.train()
    write_report(folder, resolved.name, pipeline.reports)
    show_reports(screen, folder, pipeline.reports)
    return {report.stage: report for report in pipeline.reports}, screen.file.getvalue()


def write(name: str, model: str, rows: list[str], more: str = "") -> None:
    Path(f"{name}.csv").write_text("\n".join(["text,label", *rows, ""]), encoding="utf-8")
    recipe = RECIPE.replace("NAME", name).replace("MODEL", model) + more
    Path(f"{name}.yaml").write_text(recipe)


@pytest.fixture(scope="module")
def reports(
    tmp_path_factory: pytest.TempPathFactory, local_ray: None
) -> Iterator[dict[str, StageReport]]:
    """Two trainings, one after another, with three labels each; those of the second."""
    del local_ray
    former = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("continual"))
    tiny_encoder(3).save_pretrained("model")
    tiny_processor().save_pretrained("model")
    rows = [f'"{text}",{label}' for text, label in zip(TEXTS, LABELS, strict=True)]
    write("first", "model", rows[:3])
    write("second", "runs/first/bundles/trained", rows[3:], CONTINUAL)
    run("first.yaml")
    yield run("second.yaml")[0]
    os.chdir(former)


def bundle(name: str) -> Bundle:
    return Bundle.open(Path("runs") / name / "bundles" / "trained")


@pytest.mark.usefixtures("reports")
def test_the_bundle_answers_with_old_and_new_labels() -> None:
    first, second = (bundle(name) for name in NAMES)
    old, new = (one.manifest.tasks["topic"].labels for one in (first, second))
    assert (new[:3], sorted(new)) == (old, sorted(LABELS))
    assert second.manifest.parent == first.fingerprint
    answers = Predictor(second).predict([{"text": text} for text in TEXTS])
    assert [answer.label for answer in answers] == list(LABELS)


def test_both_trainings_are_measured_and_shown(reports: dict[str, StageReport]) -> None:
    experiences = bundle("second").manifest.experiences
    assert [(one.name, len(one.figures)) for one in experiences] == [("first", 2), ("second", 1)]
    before, now = (one["topic"] for one in experiences[0].figures)
    own = experiences[1].figures[0]["topic"]
    quality = reports["train-trained"].quality
    assert quality["average_accuracy"] == pytest.approx((now + own) / 2)
    assert quality["forgetting"] == pytest.approx(before - now)
    assert quality["backward_transfer"] == pytest.approx(now - before)
    assert "data-trained-0-first" in reports
    assert "what is left" in Path("runs/second/report.html").read_text()


@pytest.mark.usefixtures("reports")
def test_a_stage_that_is_done_is_shown_without_being_run_again() -> None:
    again, shown = run("second.yaml")
    assert again["train-trained"].cached
    assert "what is left of each training" in shown


def check(*overrides: str) -> None:
    check_recipe(load_recipe("second.yaml", overrides))


@pytest.mark.usefixtures("reports")
def test_what_cannot_be_continued_says_why() -> None:
    check()
    with pytest.raises(ConfigError, match=r"starts from 'model', which does not say what it was"):
        check("model=model")
    with pytest.raises(ConfigError, match=r"trained for topic \(sequence_classification\), and"):
        check("tasks={mood: {kind: sequence_classification}}", MOOD)
    with pytest.raises(ConfigError, match="Leave ewc or adapter out"):
        check("adapter={kind: lora}")
    with pytest.raises(ConfigError, match=r"Set train\.compile: false or leave ewc out"):
        check("train.compile=true")


@pytest.mark.usefixtures("reports")
def test_earlier_rows_that_are_gone_are_named() -> None:
    Path("first.csv").rename("moved.csv")
    with pytest.raises(DataError, match="The rows belong to the earlier training 'first'"):
        run("second.yaml")
