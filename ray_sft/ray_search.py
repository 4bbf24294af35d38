"""Trials on Ray Tune that go on where they stopped, and leave the words to their callback."""

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import ray.tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

__all__ = ["run_trials"]

logger = logging.getLogger(__name__)

_SETTINGS = {
    # else Ray Tune draws tables even where it is silent
    "RAY_AIR_NEW_OUTPUT": "0",
    # else it takes Ctrl-C for the end of a search, which is to go on when it is started again
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # else a trial does not find files by the paths that the recipe has for them
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def run_trials(
    run_trial: Callable[..., None],
    job: Any,
    *,
    folder: Path,
    name: str,
    space: Mapping[str, Any],
    metric: str,
    mode: Literal["max", "min"],
    num_trials: int,
    concurrent: int,
    searcher: Searcher,
    callback: ray.tune.Callback,
    scheduler: TrialScheduler | None = None,
) -> ray.tune.ResultGrid:
    """What became of each trial.

    Args:
        run_trial: called with the trial's values and ``job``, in a process of its own.
        job: what all trials are sent.
        folder: where the search is kept, absolute, since a trial runs elsewhere.
        name: of the search, which changes with all that trials share; one that is there goes on.
        space: by name, a domain of Ray Tune.
        metric: what trials report, and are compared by.
        mode: its better direction.
        num_trials: of the search.
        concurrent: how many run at once.
        searcher: chooses the values.
        callback: tells what happens.
        scheduler: gives trials up.
    """
    # a trial is a driver: its training processes have resources of their own, and it has to have
    # some, of which a byte does no harm
    trainable = ray.tune.with_resources(partial(run_trial, job=job), {"CPU": 0, "memory": 1})
    os.environ.update(_SETTINGS)
    if ray.tune.Tuner.can_restore(str(folder / name)):
        logger.info("the search in '%s' goes on", folder / name)
        tuner = ray.tune.Tuner.restore(str(folder / name), trainable, resume_unfinished=True)
        return tuner.fit()
    tuner = ray.tune.Tuner(
        trainable,
        param_space=dict(space),
        tune_config=ray.tune.TuneConfig(
            metric=metric,
            mode=mode,
            num_samples=num_trials,
            max_concurrent_trials=concurrent,
            search_alg=searcher,
            scheduler=scheduler,
        ),
        run_config=ray.tune.RunConfig(
            name=name,
            storage_path=str(folder),
            verbose=0,  # ours are the words
            callbacks=[callback],
        ),
    )
    return tuner.fit()
