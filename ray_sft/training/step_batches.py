"""The micro-batches of a step: the same plan on every rank, and of it the arrays of one."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from ray_sft.data import Mixture, Rows, StepPlan
from ray_sft.objectives import EmbeddingMixup, Objective
from ray_sft.tasks import (
    Array,
    Batch,
    Example,
    Processor,
    Task,
    collate_with_partners,
    draw_partner,
)
from ray_sft.training.config import Train

__all__ = ["StepBatches", "mixup_of", "step_micro_batches"]

_PARTNERS = 1
"""Keeps the draws of partners apart from those of `Task.resample`."""


def mixup_of(objectives: Sequence[Objective]) -> EmbeddingMixup | None:
    """The one of ``objectives`` that wants a partner for each row."""
    for objective in objectives:
        if isinstance(objective, EmbeddingMixup) and objective.mixes:
            return objective
    return None


def step_micro_batches(
    plan: StepPlan, samples: Any, task: Task, train: Train, *, world_size: int
) -> list[Rows]:
    """All micro-batches of a step; rank ``r`` runs those at ``r``, ``r + world_size``, ..."""
    row_length = getattr(task, "max_length") if train.packing else None  # noqa: B009
    num = world_size * train.gradient_accumulation
    return plan.micro_batches(samples, num=num, row_length=row_length)


class StepBatches:
    """Turns the samples of a step into batches of arrays."""

    def __init__(
        self,
        plan: StepPlan,
        samples: Mixture,
        tasks: Mapping[str, Task],
        train: Train,
        *,
        processor: Processor,
        mixup: EmbeddingMixup | None,
        joins_rows: bool = False,
    ) -> None:
        """Batches of ``samples`` as ``plan`` orders them; with partners for ``mixup``.

        Packed rows are put behind one another where ``joins_rows``, so that none is padded.
        """
        self._joins_rows = joins_rows
        self._plan, self._samples, self._tasks, self._train = plan, samples, tasks, train
        self._processor, self._mixup = processor, mixup

    def planned(self, samples: Array, *, world_size: int) -> dict[str, list[Rows]]:
        """The micro-batches of a step on all ranks, by task."""
        return {
            name: step_micro_batches(
                self._plan, ids, self._tasks[name], self._train, world_size=world_size
            )
            for name, ids in self._samples.by_task(samples).items()
        }

    def of_rank(
        self, planned: Mapping[str, list[Rows]], *, epoch: int, rank: int, world_size: int
    ) -> list[tuple[str, Batch]]:
        """A rank's micro-batches of a step, each with its task; the same tasks on every rank."""
        return [
            (name, self._collate(name, rows, every, epoch))
            for name, every in planned.items()
            for rows in every[rank::world_size]
        ]

    def _collate(self, name: str, rows: Rows, every: Sequence[Rows], epoch: int) -> Batch:
        task = self._tasks[name]
        if not rows:  # fewer rows than ranks: the same modules run, on a row without targets
            shortest = min((row for other in every for row in other), key=len)
            return task.without_targets(self._collate(name, [shortest], every, epoch))
        groups = [self._examples(name, row, epoch) for row in rows]
        if self._joins_rows:
            groups = [list(chain.from_iterable(groups))]
        if self._train.packing:
            return task.pack(groups, self._processor)
        examples = [group[0] for group in groups]
        if self._mixup is None:
            return task.collate(examples, self._processor)
        return self._mixed(name, [row[0] for row in rows], examples, self._mixup.alpha, epoch)

    def _mixed(
        self,
        name: str,
        samples: Sequence[int],
        examples: Sequence[Example],
        alpha: float,
        epoch: int,
    ) -> Batch:
        """A batch whose rows have the partners that this epoch gives to their samples."""
        partners, shares = list[Example](), list[float]()
        for sample in samples:
            rng = np.random.default_rng((self._train.seed, epoch, sample, _PARTNERS))
            siblings = self._samples.siblings(sample)
            place, share = draw_partner(len(siblings), alpha=alpha, rng=rng)
            partners += self._examples(name, [siblings[place]], epoch)
            shares.append(share)
        task = self._tasks[name]
        return collate_with_partners(task, examples, partners, shares, self._processor)

    def _examples(self, name: str, ids: Sequence[int], epoch: int) -> list[Example]:
        """The samples of a row as this epoch sees them."""
        return [
            self._tasks[name].resample(
                example, self._processor, np.random.default_rng((self._train.seed, epoch, sample))
            )
            for sample, example in zip(ids, self._samples.examples(ids), strict=True)
        ]
