"""What a run gives to the passes that compress its model: rows, and somebody who trains."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ray_sft.compression import EncodedRows, PassContext
from ray_sft.data import Gate, SampleStore, prepare
from ray_sft.ray_session import cluster_cpus
from ray_sft.recipe import EarlierStage
from ray_sft.retraining import Retraining
from ray_sft.tasks import Example

__all__ = ["pass_context"]

_CALIBRATION_ROWS = 512
"""Rows of each task that a pass may calibrate on; more change its choice little."""


def pass_context(
    retraining: Retraining,
    *,
    out_dir: Path,
    on_record: Callable[[Mapping[str, Any]], None],
) -> PassContext:
    """The context of passes on the model of a stage.

    Args:
        retraining: of its students.
        out_dir: for rows that have to be encoded anew.
        on_record: is told how training goes.
    """
    task_dirs = retraining.task_dirs
    return PassContext(
        {name: _calibration_rows(folder) for name, folder in task_dirs.items()},
        partial(retraining.train, on_record=on_record),
        partial(_training_rows, dict(task_dirs)),
        partial(_encode_anew, retraining.stage, out_dir),
    )


def _calibration_rows(folder: Path) -> list[Example]:
    """Some rows of training, at even distances."""
    store = SampleStore(folder / "train")
    count = min(len(store), _CALIBRATION_ROWS)
    return store.examples([len(store) * number // count for number in range(count)])


def _training_rows(task_dirs: Mapping[str, Path], task: str) -> Iterator[Example]:
    store = SampleStore(task_dirs[task] / "train")
    for number in range(len(store)):
        yield from store.examples([number])


def _encode_anew(stage: EarlierStage, out_dir: Path, processor_dir: Path) -> EncodedRows:
    """The rows of ``stage`` without changed copies; of a stream, as many as a window has."""
    for name, task in stage.tasks.items():
        splits = stage.data[name]
        if stage.train.window:
            first = splits.with_first_rows(stage.train.window).train
            splits = splits.model_copy(update={"train": first})
        prepare(
            task,
            splits,
            processor_dir=processor_dir,
            out_dir=out_dir / name,
            num_tasks=cluster_cpus(),
            augment=(),
            quality=stage.quality,
            seed=stage.train.seed,
            gate=Gate(),
        )
    return EncodedRows(
        {name: SampleStore(out_dir / name / "eval").all() for name in stage.tasks},
        {name: _calibration_rows(out_dir / name) for name in stage.tasks},
    )
