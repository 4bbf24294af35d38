"""Searching for better settings of a recipe's last training: `ray-sft tune`.

Trials are trainings like any other, on Ray Train, begun by Ray Tune: Optuna's sampler chooses what
to try (TPE, Bergstra et al. 2011), and ASHA (Li et al. 2020, arXiv:1810.05934) gives up trainings
that fall behind. All of them read the same encoded rows and leave no bundle; what is best goes
into a recipe, to be run. An interrupted search goes on where it stopped.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray.tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from ray_sft.core import ConfigError, TrainingError, Tree, apply_overrides, validate
from ray_sft.pipeline import Pipeline
from ray_sft.ray_search import run_trials
from ray_sft.ready_stage import ReadyStage
from ray_sft.recipe import EarlierStage, Recipe
from ray_sft.run_folder import fingerprint
from ray_sft.training import Tune, compared_figure

__all__ = ["Trial", "best_recipe", "changed", "search"]

logger = logging.getLogger(__name__)

_MOST_EVALUATIONS = 1000


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one training of a search."""

    changes: dict[str, Tree]
    """The settings that were tried."""
    figures: tuple[float, ...]
    """The compared figure at each of its evaluations; empty where it failed before the first."""
    seconds: float
    error: str = ""
    """Why it failed."""


def changed(recipe: Recipe, changes: Mapping[str, Tree]) -> Recipe:
    """``recipe`` with some settings.

    Raises:
        ConfigError: a setting does not exist or cannot have the value.
    """
    overrides = [f"{name}={json.dumps(value)}" for name, value in changes.items()]
    tree = apply_overrides(recipe.model_dump(mode="json"), overrides)
    return validate(Recipe, tree, what="the recipe with the settings of a trial")


def best_recipe(recipe: Recipe, trial: Trial) -> Recipe:
    """The recipe with what a trial has tried, ready to be run."""
    return changed(recipe, trial.changes).model_copy(update={"tune": None})


def search(pipeline: Pipeline) -> tuple[list[Trial], str]:
    """The trials of the recipe of ``pipeline``, the best first, and what they are compared by.

    Args:
        pipeline: of a recipe as `ray_sft.resolve.check_recipe` made it.

    Raises:
        ConfigError: the recipe has no `tune`, or a value of the space is not valid.
        TrainingError: no trial was evaluated.
    """
    recipe, settings = pipeline.recipe, pipeline.recipe.tune
    if settings is None:
        raise ConfigError(
            "the recipe has no tune. Name what to search, such as tune: {space: "
            "{train.learning_rate: {kind: log_uniform, low: 1.0e-4, high: 2.0e-3}}}"
        )
    _check_space(recipe, settings)
    ready, inputs = pipeline.ready()
    figure, direction = compared_figure(ready.stage.tasks)
    folder = pipeline.folder.path / "tune"  # absolute: a trial runs elsewhere
    job = _Job(recipe, figure, replace(ready, share=1 / settings.concurrent), folder / "trials")
    name = f"search-{_fingerprint(ready.stage, settings, inputs)[:12]}"
    results = run_trials(
        _run_trial,
        job,
        folder=folder,
        name=name,
        space={key: domain.sampled() for key, domain in settings.space.items()},
        metric="figure",
        mode=direction,
        num_trials=settings.trials,
        concurrent=settings.concurrent,
        searcher=OptunaSearch(seed=settings.seed),
        scheduler=ASHAScheduler(
            grace_period=settings.grace,
            reduction_factor=settings.reduction,
            max_t=_MOST_EVALUATIONS,
        ),
        callback=_Teller(figure),
    )
    trials = [_trial_of(results[number]) for number in range(len(results))]
    measured = [trial for trial in trials if trial.figures]
    if not measured:
        raise TrainingError(
            f"none of the {len(trials)} trials was evaluated. The first failed with: "
            f"{trials[0].error or 'no error'}"
        )
    sign = -1.0 if direction == "max" else 1.0

    def place(trial: Trial) -> tuple[float, str]:  # equal ones stand as they always do
        return sign * trial.figures[-1], json.dumps(trial.changes)

    failed = [trial for trial in trials if not trial.figures]
    return [*sorted(measured, key=place), *failed], figure


def _fingerprint(stage: EarlierStage, settings: Tune, inputs: str) -> str:
    """Changes with everything that trials share and with what they may differ in."""
    adapter = stage.adapter.model_dump(mode="json") if stage.adapter else None
    objectives = [item.model_dump(mode="json") for item in stage.objectives]
    space = settings.model_dump(mode="json", exclude={"concurrent"})
    return fingerprint(inputs, stage.train.decisive(), objectives, adapter, space)


def _check_space(recipe: Recipe, settings: Tune) -> None:
    for name, domain in settings.space.items():
        for value in domain.ends():
            if changed(recipe, {name: value}).prompt_length != recipe.prompt_length:
                raise ConfigError(
                    f"tune.space: '{name}' would change the prompt, which stands in the rows that "
                    f"all trials learn from. Search others, with {recipe.prompt_length or 'no'} "
                    "tokens of a prompt in each trial."
                )


@dataclass(frozen=True, slots=True)
class _Job:
    """What every trial is sent."""

    recipe: Recipe
    figure: str
    ready: ReadyStage
    out_dir: Path


def _run_trial(config: Mapping[str, Any], *, job: _Job) -> None:
    """One training, in a process of its own."""
    stage = changed(job.recipe, _changes(config)).stages()[-1]
    out_dir = job.out_dir / ray.tune.get_context().get_trial_id()

    def on_record(record: Mapping[str, Any]) -> None:
        if record["event"] == "evaluation":
            ray.tune.report({"figure": record[job.figure], "step": record["step"]})

    try:
        replace(job.ready, stage=stage).train(out_dir=out_dir, name="run", on_record=on_record)
    finally:
        shutil.rmtree(out_dir / "run", ignore_errors=True)  # checkpoints; the figures stay


class _Teller(ray.tune.Callback):
    """Logs what trials do; Ray Tune writes it into a file with the search."""

    def __init__(self, figure: str) -> None:
        self._figure = figure

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        del iteration
        place = trials.index(trial) + 1
        spelled = ", ".join(f"{k} {_short(v)}" for k, v in _changes(trial.config).items())
        logger.info("trial %d: %s %.4f with %s", place, self._figure, result["figure"], spelled)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        del iteration
        logger.warning("trial %d failed", trials.index(trial) + 1)


def _short(value: Tree) -> str:
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value)


def _changes(config: Mapping[str, Any]) -> dict[str, Tree]:
    """The settings of a trial as a recipe would spell them."""
    return {
        name: json.loads(value) if isinstance(value, str) else value
        for name, value in config.items()
    }


def _trial_of(result: ray.tune.Result) -> Trial:
    frame = result.metrics_dataframe
    figures = () if frame is None else tuple(float(value) for value in frame["figure"])
    return Trial(
        changes=_changes(result.config or {}),
        figures=figures,
        seconds=float((result.metrics or {}).get("time_total_s", 0.0)),
        error=str(result.error).strip().splitlines()[-1] if result.error else "",
    )
