"""Searching for the smallest or fastest model within a budget: `ray-sft compress BUNDLE`.

A trial makes one candidate: it cuts the model, distils what is left, exports and quantizes it, and
times it against the source. Optuna's sampler chooses what to try (TPE, Bergstra et al. 2011), Ray
Tune runs it, one trial at a time since they are timed. A student that misses the budget is not
finished, and neither is one that has nothing which a student that missed it lacks. Bundles are kept
by the chain that made them, so candidates share students, and an interrupted search goes on.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import ray.tune
from ray.tune.search.optuna import OptunaSearch

from ray_sft.bundle import Bundle
from ray_sft.compression import (
    BATCH_SIZE,
    NUM_SLOTS,
    Distil,
    KernelTiming,
    Space,
    Tried,
    check_budget_names,
    fastest,
    pareto_front,
    products_of,
    publish,
    time_kernels,
)
from ray_sft.core import CompressionError
from ray_sft.core.whole_files import write_whole
from ray_sft.data import SampleStore
from ray_sft.pipeline import Pipeline
from ray_sft.ray_search import run_trials
from ray_sft.run_folder import StageReport, fingerprint
from ray_sft.search_trial import SearchJob, SearchSettings, run_trial

__all__ = [
    "COMPRESSED",
    "Found",
    "SearchSettings",
    "check_source",
    "main_figure",
    "search_smaller",
]

logger = logging.getLogger(__name__)

COMPRESSED = "compressed"
"""The variant that a search publishes."""


@dataclass(frozen=True, slots=True)
class Found:
    """The end of a search."""

    settings: SearchSettings
    """With the budget that was kept to."""
    tried: tuple[Tried, ...]
    """The best first."""
    front: tuple[Tried, ...]
    """See `pareto_front`."""
    bundle: Bundle | None = None
    """The best as it is published; None where nothing keeps the budget."""

    @property
    def best(self) -> Tried | None:
        """What keeps the budget and is better than the source."""
        target = self.settings.target
        return next((one for one in self.tried if one.keeps_budget and one.gain(target) > 1), None)

    @property
    def nearest(self) -> Tried | None:
        """Of what is finished, that which misses the budget the least."""
        finished = [one for one in self.tried if one.is_finished]
        return min(finished, key=lambda one: one.worst_miss, default=None)


def search_smaller(
    pipeline: Pipeline, source: Bundle, settings: SearchSettings, *, path: Path
) -> Found:
    """Searches what to make of ``source``, and writes the best to ``path``.

    Args:
        pipeline: of the recipe that ``source`` was trained by, in the folder of the search.
        source: a trained bundle.
        settings: what is searched for.
        path: of the bundle to publish.

    Raises:
        CompressionError: the model cannot be exported, or the budget names no figure.
    """
    settings = _with_budget(settings, source)
    check_budget_names(source.manifest.tasks, settings.budget)
    rows = pipeline.prepare_for(source)
    folder, stage = pipeline.folder.path, pipeline.recipe.stages()[-1]
    what = fingerprint(source.fingerprint, rows, stage.train.decisive(), settings.epochs)
    judged = fingerprint(what, settings.budget)
    bundles = folder / "candidates" / what[:12]
    timings = _kernels(bundles / "kernels.json", source, pipeline.eval_dirs())
    space = Space.of(source, timings, settings.target)
    job = SearchJob(
        source,
        space,
        settings,
        pipeline.retraining(source),
        examples_of=pipeline.eval_dirs(),
        bundles=bundles,
        results=folder / "tried" / judged[:12],
        figures=frozenset(n.partition("/")[2] for n in source.manifest.metrics if "num_" not in n),
        # whatever the target, lest students that another search has made be timed anew
        num_threads=fastest(timings, alone=False).num_threads,
    )
    inputs = fingerprint(judged, settings.model_dump(mode="json"))
    report = pipeline.folder.finished("search", inputs)
    if report is None:
        pipeline.watcher.started("search")
        report = StageReport(stage="search", seconds=_search(job, folder=folder))
        pipeline.folder.finish(report, inputs)
    pipeline.watcher.finished(report)
    tried = job.best_first()
    metric, higher_is_better = main_figure(source)
    front = pareto_front(tried, metric, higher_is_better=higher_is_better)
    found = Found(settings, tried, front)
    if found.best:
        found = replace(
            found, bundle=publish(found.best, source, path, budget=settings.budget, timings=timings)
        )
    _clear(job, found)
    return found


def _kernels(path: Path, source: Bundle, eval_dirs: Mapping[str, Path]) -> list[KernelTiming]:
    """What the products of the model take on this machine; measured once, lest candidates change.

    See `ray_sft.compression.kernels`.
    """
    if path.is_file():
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [KernelTiming.model_validate(row) for row in rows]
    lengths = SampleStore(next(iter(eval_dirs.values()))).lengths
    single_rows = 1 if source.is_decoder else max(1, int(np.median(lengths)))
    timings = time_kernels(
        products_of(source),
        in_blocks=source.is_decoder,
        single_rows=single_rows,
        batch_rows=single_rows * (NUM_SLOTS if source.is_decoder else BATCH_SIZE),
        max_threads=os.cpu_count() or 1,
    )
    for one in timings:
        logger.info(
            "products in %s%s on %d threads: %.2f ms alone, %.2f ms in a batch",
            one.kernel,
            f", blocks of {one.block_size}," if one.block_size else "",
            *(one.num_threads, one.single_ms, one.batch_ms),
        )
    write_whole(path, json.dumps([one.model_dump(mode="json") for one in timings], indent=2))
    return timings


def check_source(source: Bundle) -> None:
    """Raises CompressionError where a search cannot begin with a bundle."""
    if source.manifest.format != "torch":
        raise CompressionError(
            f"bundle '{source.path}' is compressed already ({source.manifest.variant}). Give the "
            "one that was trained, such as runs/NAME/bundles/trained."
        )
    if not source.manifest.recipe:
        raise CompressionError(
            f"bundle '{source.path}' does not say by which recipe it was trained, so that there "
            "are no rows to judge by. Give one that 'ray-sft run' has made."
        )


def main_figure(source: Bundle) -> tuple[str, bool]:
    """The figure that a plot shows, of the first task, and whether a higher one is better."""
    name, task = next(iter(source.manifest.tasks.items()))
    figure, direction = task.main_metric
    return f"{name}/{figure}", direction == "max"


def _with_budget(settings: SearchSettings, source: Bundle) -> SearchSettings:
    if settings.budget:
        return settings
    budget = {}
    for name, task in source.manifest.tasks.items():
        figure, direction = task.main_metric
        budget[f"{name}/{figure}"] = -0.01 if direction == "max" else 0.01
    return settings.model_copy(update={"budget": budget})


def _search(job: SearchJob, *, folder: Path) -> float:
    """Runs the trials that are left; the seconds it took.

    Raises:
        CompressionError: a trial failed.
    """
    began, known = time.monotonic(), len(job.choices_tried())
    left = max(0, job.settings.trials - known)
    if known:
        logger.info("%d of %d models were tried before", known, job.settings.trials)
    trials = folder / "trials"
    # what Ray Tune has left of a search that was killed: ours begins with what was tried
    shutil.rmtree(trials, ignore_errors=True)
    results = run_trials(
        run_trial,
        job,
        folder=folder,
        name=trials.name,
        space={n: ray.tune.randint(0, len(v)) for n, v in job.space.searched.items()},
        metric="score",
        mode="max",
        num_trials=left,
        concurrent=1,
        searcher=_searcher(job),
        callback=_Teller(known, job.settings.trials),
    )
    shutil.rmtree(trials, ignore_errors=True)
    if results.errors:
        raise CompressionError(
            f"{len(results.errors)} of {left} trials failed, the first with: "
            f"{str(results.errors[0]).strip().splitlines()[-1]} What was tried before is kept: "
            "mend it, and run the same command again to go on."
        )
    return time.monotonic() - began


def _searcher(job: SearchJob) -> OptunaSearch:
    """Begins with what is known, then goes on with what was interrupted and with the anchors."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage, name = optuna.storages.InMemoryStorage(), "search"
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    anchors = job.space.anchors()
    distributions = {
        field: optuna.distributions.IntDistribution(0, len(values) - 1)
        for field, values in job.space.searched.items()
    }
    known = job.choices_tried()
    for one in known:
        study.add_trial(
            optuna.trial.create_trial(
                params=job.space.places(one.candidate),
                distributions={**distributions},
                value=one.score(job.settings.target, job.settings.budget),
            )
        )
    tried = {one.candidate for one in known}
    for candidate in dict.fromkeys((*job.begun(), *anchors)):
        if candidate not in tried and job.space.holds(candidate):
            study.enqueue_trial(job.space.places(candidate))
    sampler = optuna.samplers.TPESampler(
        seed=job.settings.seed, n_startup_trials=2 * len(anchors), multivariate=True
    )
    return OptunaSearch(sampler=sampler, storage=storage, study_name=name)


class _Teller(ray.tune.Callback):
    """Logs what trials do; Ray Tune writes it into a file with the search."""

    def __init__(self, known: int, num_trials: int) -> None:
        self._known = known
        self._num_trials = num_trials

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        del iteration
        place = self._known + trials.index(trial) + 1
        logger.info("trial %d of %d: %s", place, self._num_trials, result["told"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        del iteration
        place = self._known + trials.index(trial) + 1
        logger.warning("trial %d of %d failed", place, self._num_trials)


def _clear(job: SearchJob, found: Found) -> None:
    """Removes what nobody would go on from: all but students, the front and what is nearest."""
    nearest = [found.nearest] if found.nearest else []
    kept = {Path(one.reports[-1].path).name for one in (*found.front, *nearest)}
    for path in job.bundles.glob("*-*"):
        if path.name not in kept and not path.name.startswith(f"{Distil.variant}-"):
            shutil.rmtree(path)
