"""Which copies are made of a row, and from which random numbers.

Everything follows from the seed and the row's position, so the same data gives the same copies
whatever the number of blocks, workers or machines, and any copy can be made again alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_sft.data.augment.base import Augmentation
from ray_sft.tasks import Row

__all__ = ["Copy", "copies_of"]


@dataclass(frozen=True, slots=True)
class Copy:
    """A changed row and where it comes from."""

    number: int
    """Counts the copies of a row over all operations, from 1; 0 is the row itself."""
    kind: str
    """Which operation made it."""
    lineage: str
    """The same with a number of its own, such as ``eda#2``."""
    row: dict[str, Any]


def copies_of(
    rows: Sequence[Row],
    positions: Sequence[int],
    operations: Sequence[Augmentation],
    *,
    seed: int,
) -> list[list[Copy]]:
    """For each row all its copies, in the order of the operations.

    A copy depends on the seed, the row's position, the operation's place in the list and its own
    number there; an operation added at the end changes none of the others' copies.
    """
    copies: list[list[Copy]] = [[] for _ in rows]
    made: Counter[str] = Counter()
    number = 0
    for place, operation in enumerate(operations):
        for copy in range(operation.copies):
            number += 1
            made[operation.kind] += 1
            lineage = f"{operation.kind}#{made[operation.kind]}"
            rngs = [np.random.default_rng((seed, position, place, copy)) for position in positions]
            changed = operation.change_rows(rows, rngs)
            for found, row in zip(copies, changed, strict=True):
                found.append(Copy(number, operation.kind, lineage, row))
    return copies
