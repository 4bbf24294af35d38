"""What the loss of each task counts in the step that is run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ray_sft.models import HeadedEncoder
from ray_sft.training.config import Train
from ray_sft.training.shared_gradients import SharedGradients

__all__ = ["TaskWeights"]


class TaskWeights:
    """The recipe's own weights times those that follow the training."""

    def __init__(self, tasks: Mapping[str, Any], train: Train, module: torch.nn.Module) -> None:
        """Before the first step; ``module`` is not yet wrapped by an engine."""
        self._tasks = list(tasks)
        self._fixed = {name: train.task_weights.get(name, 1.0) for name in tasks}
        self._balance = train.balance
        self._state = self._balance.start(self._tasks) if self._balance else {}
        self._shared: SharedGradients | None = None
        if self._balance and self._balance.needs_gradients:
            assert isinstance(module, HeadedEncoder)
            self._shared = SharedGradients(module, self._tasks)

    def now(self) -> dict[str, float]:
        """By task, for the next step."""
        if self._balance is None:
            return self._fixed
        found = self._balance.weights(self._state)
        return {name: weight * found[name] for name, weight in self._fixed.items()}

    @property
    def are_fixed(self) -> bool:
        """Whether every step has the same."""
        return self._balance is None

    def fixed(self, losses: Mapping[str, float]) -> float:
        """The sum of mean losses by the recipe's own weights, which evaluations compare."""
        return sum(self._fixed[name] * loss for name, loss in losses.items())

    @contextmanager
    def counting(self, task: str) -> Iterator[None]:
        """Around the backward pass of a micro-batch of ``task``."""
        if self._shared is None:
            yield
        else:
            with self._shared.counting(task):
                yield

    def after_step(self, losses: Mapping[str, float], num_targets: Mapping[str, float]) -> None:
        """Learns from a step's mean losses; every rank must call it.

        A step without rows of one of the tasks says nothing.
        """
        if self._balance is None:
            return
        used = self.now()
        lengths = self._shared.lengths() if self._shared else dict.fromkeys(self._tasks, 0.0)
        if all(num_targets[name] for name in self._tasks):
            gradients = {name: length / used[name] for name, length in lengths.items()}
            self._state = self._balance.after_step(self._state, losses, gradients)

    def state(self) -> dict[str, Any]:
        """What a checkpoint remembers."""
        return dict(self._state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""
        self._state = dict(state)
