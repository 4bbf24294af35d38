"""A run may end with its best weights, and end early; a resumed one does the same."""

import math
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ray_sft.data import SampleStore
from ray_sft.evaluation import evaluate
from ray_sft.inference import TorchRunner
from ray_sft.models import load_model, load_processor
from ray_sft.tasks import MaskedLanguageModel, SequenceClassification
from ray_sft.training import Train
from ray_sft.training.best import Best
from tests.training.worlds import records, run_world, train

CLASSIFY = {"it": SequenceClassification(labels=("a", "b"))}


def followed(tasks, figure, values, **settings):
    best = Best(tasks, Train(**settings))
    for step, value in enumerate(values, start=1):
        best.update({figure: value}, step=step)
    return best


def test_better_is_said_by_the_main_figure_of_the_task():
    assert followed(CLASSIFY, "accuracy", [0.5, 0.7, 0.6]).step == 2
    masked = {"it": MaskedLanguageModel()}
    name, direction = masked["it"].main_metric
    assert direction == "min"
    assert followed(masked, name, [5.0, 7.0, 6.0]).step == 1


def test_several_tasks_are_judged_by_their_weighted_loss():
    assert followed(CLASSIFY | {"other": MaskedLanguageModel()}, "loss", [3.0, 1.0, 2.0]).step == 2


def test_nothing_and_the_same_again_are_not_better():
    assert followed(CLASSIFY, "accuracy", [math.nan, math.nan]).step == 0
    assert followed(CLASSIFY, "accuracy", [0.5, 0.5]).step == 1


def test_patience_counts_evaluations_in_a_row():
    assert not followed(CLASSIFY, "accuracy", [0.5, 0.4, 0.6, 0.5], patience=2).ends
    assert followed(CLASSIFY, "accuracy", [0.5, 0.4, 0.6, 0.5, 0.6], patience=2).ends
    assert not followed(CLASSIFY, "accuracy", [0.5] + [0.1] * 50).ends


SETTINGS = {
    "epochs": 8,
    "evaluate_every": 3,
    "checkpoint_every": 3,
    "learning_rate": 2e-2,  # so high that evaluations get worse again
    "schedule": "constant",
    "keep": "best",
    "patience": 3,
}


@pytest.mark.timeout(240)
def test_the_run_ends_with_its_best_weights_and_resumed_it_ends_the_same(
    tiny_encoder, tmp_path: Path
):
    job = tiny_encoder.job(zero_stage=3, **SETTINGS)
    run_world(train, 2, job, tmp_path / "whole")
    evaluations = records(tmp_path / "whole", "evaluation")
    name, _ = tiny_encoder.task.main_metric
    values = [record[name] for record in evaluations]
    best = evaluations[values.index(max(values))]
    last = evaluations[-1]["step"]
    assert best["step"] < last, "the test needs a run whose best evaluation is not the last"
    (end,) = records(tmp_path / "whole", "end")
    assert (end["step"], end["best_step"]) == (last, best["step"])
    assert last == best["step"] + 3 * 3
    assert len(records(tmp_path / "whole", "step")) == last

    weights = tmp_path / "whole" / f"step-{last}" / "weights"
    processor = load_processor(tiny_encoder.model)
    model = load_model(str(weights), tiny_encoder.task, processor=processor)
    examples = SampleStore(tiny_encoder.data / "eval").all()
    figures = evaluate(tiny_encoder.task, TorchRunner(model), processor, examples)
    assert figures["loss"] == pytest.approx(best["loss"], abs=1e-4)
    assert figures[name] == best[name]

    between = tmp_path / "whole" / f"step-{best['step'] + 3}"
    run_world(train, 2, job, tmp_path / "rest", between)
    assert records(tmp_path / "rest", "end")[0]["best_step"] == best["step"]
    assert records(tmp_path / "rest", "evaluation")[-1]["step"] == last
    again = load_file(tmp_path / "rest" / f"step-{last}" / "weights" / "model.safetensors")
    whole = load_file(weights / "model.safetensors")
    assert all(again[key].equal(whole[key]) for key in whole)

    run_world(train, 2, job, tmp_path / "over", tmp_path / "whole" / f"step-{last}")
    assert not records(tmp_path / "over", "step"), "a run that has ended does not go on"
