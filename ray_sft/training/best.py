"""The best evaluation of a run: which it was, its weights, and when to wait for no better one."""

import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ray_sft.tasks import Task
from ray_sft.training.config import Train

__all__ = ["Best", "compared_figure"]

_WEIGHTS = "best"
"""Folder of a checkpoint that holds the weights of the best evaluation so far."""


def compared_figure(tasks: Mapping[str, Task]) -> tuple[str, Literal["max", "min"]]:
    """By what evaluations are compared, and its better direction.

    A task's main figure; of several tasks together, their weighted loss.
    """
    if len(tasks) > 1:
        return "loss", "min"
    (task,) = tasks.values()
    return task.main_metric


class Best:
    """Follows the evaluations of a run; the same on every rank, since they see the same figures.

    Better is said by the task's main figure; of several tasks together, by their weighted loss.
    """

    def __init__(self, tasks: Mapping[str, Task], train: Train) -> None:
        """Nothing was evaluated yet."""
        name, direction = compared_figure(tasks)
        self._figure, self._sign = name, 1.0 if direction == "max" else -1.0
        self._train = train
        self._value = -math.inf
        self.step = 0
        """Of the best evaluation; 0 before the first."""
        self._num_worse = 0
        self._folder = Path(tempfile.mkdtemp(prefix="ray-sft-best-")) if self.keeps else None

    @property
    def keeps(self) -> bool:
        """Whether the run ends with the weights of its best evaluation."""
        return self._train.keep == "best"

    @property
    def ends(self) -> bool:
        """Whether so many evaluations in a row were no better that training ends."""
        return 0 < self._train.patience <= self._num_worse

    def update(self, figures: Mapping[str, float], *, step: int) -> bool:
        """Takes an evaluation's figures; whether it is the best so far. NaN never is."""
        value = self._sign * figures[self._figure]
        is_better = value > self._value
        if is_better:
            self._value, self.step, self._num_worse = value, step, 0
        else:
            self._num_worse += 1
        return is_better

    @property
    def weights_dir(self) -> Path:
        """Where the weights of the best evaluation lie, or are to be written."""
        assert self._folder is not None
        return self._folder / _WEIGHTS

    def state(self) -> dict[str, Any]:
        """What a checkpoint remembers."""
        return {"value": self._value, "step": self.step, "num_worse": self._num_worse}

    def restore(self, state: Mapping[str, Any], checkpoint: Path) -> None:
        """Goes on from a checkpoint that `state` and `copy_weights` wrote into."""
        self._value, self.step = state["value"], state["step"]
        self._num_worse = state["num_worse"]
        saved = checkpoint / _WEIGHTS
        if self.keeps and saved.is_dir():
            shutil.copytree(saved, self.weights_dir, dirs_exist_ok=True)

    def copy_weights(self, checkpoint: Path, *, finished_as: str = "") -> None:
        """Puts the weights of the best evaluation into a checkpoint, at the end by their name."""
        shutil.copytree(self.weights_dir, checkpoint / (finished_as or _WEIGHTS))

    def close(self) -> None:
        """Removes what was kept beside the checkpoints."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
