"""Partners of samples for mixup: which other sample is mixed into a sample, and how much of it.

A partner depends on the seed, the epoch and the sample alone, so that a step holds the same
mixtures however it is cut into micro-batches and on any number of workers.
"""

from collections.abc import Sequence

import numpy as np

from ray_sft.tasks.base import Array, Batch, Example, Processor, Task

__all__ = ["PARTNER", "SHARE", "collate_with_partners", "draw_partner"]

PARTNER = "partner."
"""Before the name of an array of a batch: the same array of the rows' partners."""
SHARE = "own_share"
"""(batch,), float32: how much of a mixture is the row itself; the rest is its partner."""


def draw_partner(num_samples: int, *, alpha: float, rng: np.random.Generator) -> tuple[int, float]:
    """The partner of a sample among ``num_samples``, and the sample's own share.

    Any sample with the same probability, itself too. The share is drawn from Beta(alpha, alpha),
    as in Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412.
    """
    return int(rng.integers(num_samples)), float(rng.beta(alpha, alpha))


def collate_with_partners(
    task: Task,
    examples: Sequence[Example],
    partners: Sequence[Example],
    shares: Sequence[float] | Array,
    processor: Processor,
) -> Batch:
    """A batch of ``examples`` that also holds their ``partners``, padded to the same width."""
    both = task.collate([*examples, *partners], processor)
    rows = {name: array[: len(examples)] for name, array in both.items()}
    others = {PARTNER + name: array[len(examples) :] for name, array in both.items()}
    return rows | others | {SHARE: np.asarray(shares, dtype=np.float32)}
