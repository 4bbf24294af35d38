"""What a run reads, epoch by epoch: the same rows in another order, or the next of a stream."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from ray_sft.data import Mixture, SampleStore, StepPlan
from ray_sft.tasks import Array, Processor
from ray_sft.training.config import Train
from ray_sft.training.continual import Former
from ray_sft.training.job import Job
from ray_sft.training.step_batches import StepBatches, mixup_of

__all__ = ["Epochs", "PlannedStep", "total_steps"]

_KEPT = 2
"""Checkpoints from which a run may have to go on: the last one, and one that is on its way."""


def total_steps(plan: StepPlan, train: Train) -> int:
    """The optimizer steps of a run."""
    return train.steps or sum(len(plan.epoch_steps(epoch)) for epoch in range(train.epochs))


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step of a run."""

    number: int
    """Counted from 0."""
    epoch: int
    samples: Array
    """Their ids, of all ranks together."""
    ends_epoch: bool
    waited_s: float = 0.0
    """How long a window was waited for, of the first step in it."""


class Epochs:
    """The rows of a run in their order, the same on every rank."""

    def __init__(self, job: Job, *, processor: Processor, joins_rows: bool) -> None:
        """Reads lengths and weights; see `StepBatches` for ``joins_rows``."""
        self._job, self._processor, self._joins_rows = job, processor, joins_rows
        self._first_step = 0
        """Of the epoch that is read."""
        self._kept: list[int] = []
        """Epochs in which a run that goes on from one of the last checkpoints would be."""
        self._read({name: Path(folder) / "train" for name, folder in job.data_dirs.items()})
        self.num_steps = total_steps(self.plan, job.train)

    def _read(self, folders: Mapping[str, Path]) -> None:
        job = self._job
        self.samples = _mixture({n: SampleStore(f) for n, f in folders.items()}, job.former)
        self.plan = StepPlan(
            self.samples.lengths, job.train.tokens_per_step, job.train.seed, self.samples.weights
        )
        self.batches = StepBatches(
            self.plan,
            self.samples,
            job.tasks,
            job.train,
            processor=self._processor,
            mixup=mixup_of(job.objectives),
            joins_rows=self._joins_rows,
        )

    def steps(self, done: int = 0, place: Mapping[str, int] | None = None) -> Iterator[PlannedStep]:
        """The steps of the run after the first ``done``, of which the last one left a ``place``."""
        first, number = (place["epoch"], place["first_step"]) if place else (0, 0)
        for epoch in count(first):
            if number >= self.num_steps:
                return
            waited_s = self._open(epoch)
            self._first_step = number
            steps = self.plan.epoch_steps(epoch)
            for samples in steps[: self.num_steps - number]:
                if number >= done:
                    yield PlannedStep(number, epoch, samples, samples is steps[-1], waited_s)
                    waited_s = 0.0
                number += 1

    def place_after(self, step: PlannedStep) -> dict[str, int]:
        """What a checkpoint after a step remembers, for `steps`."""
        if step.ends_epoch:
            return {"epoch": step.epoch + 1, "first_step": step.number + 1}
        return {"epoch": step.epoch, "first_step": self._first_step}

    def saved(self, place: Mapping[str, int]) -> None:
        """A checkpoint with a place is written; windows that only earlier ones need may go."""
        if self._job.windows:
            self._kept = [*self._kept, place["epoch"]][-_KEPT:]
            if len(self._kept) == _KEPT:
                self._job.windows.release(self._kept[0])

    def _open(self, epoch: int) -> float:
        """Where rows are streamed, an epoch is a window; returns how long it was waited for."""
        windows = self._job.windows
        if windows is None:
            return 0.0
        began = time.monotonic()
        folder = windows.open(epoch)
        if epoch:
            (name,) = self._job.tasks
            self._read({name: folder})
        return time.monotonic() - began


def _mixture(stores: Mapping[str, SampleStore], former: Former | None) -> Mixture:
    """The samples of a run, with those of earlier trainings to be replayed."""
    if former is None:
        return Mixture(stores)
    earlier = {
        name: [SampleStore(Path(folder)) for folder in folders]
        for name, folders in former.data_dirs.items()
    }
    return Mixture(stores, earlier, replay=former.settings.replay)
