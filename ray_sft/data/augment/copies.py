"""Which copies are made of a row, and from which random numbers.

Everything follows from the seed and the row's position, so the same data gives the same copies
whatever the number of blocks, workers or machines, and any copy can be made again alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray_sft.data.augment.base import Augmentation
from ray_sft.data.augment.draws import Draws
from ray_sft.data.augment.gate import Gate
from ray_sft.tasks import Row

__all__ = ["Copy", "copies_of"]

_OPEN = Gate()


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
    dropped: str = ""
    """Why the gate does not let it through; empty where it does."""


def copies_of(
    rows: Sequence[Row],
    positions: Sequence[int],
    operations: Sequence[Augmentation],
    *,
    seed: int,
    gate: Gate = _OPEN,
) -> list[list[Copy]]:
    """For each row all its copies, in the order of the operations.

    A copy depends on the seed, the row's position, the operation's place in the list and its own
    number there; an operation added at the end changes none of the others' copies. Those that
    ``gate`` drops say why.
    """
    copies: list[list[Copy]] = [[] for _ in rows]
    made: Counter[str] = Counter()
    number = 0
    for place, operation in enumerate(operations):
        for copy in range(operation.copies):
            number += 1
            made[operation.kind] += 1
            lineage = f"{operation.kind}#{made[operation.kind]}"
            rngs = [Draws(seed, position, place, copy) for position in positions]
            changed = operation.change_rows(rows, rngs)
            for found, row in zip(copies, changed, strict=True):
                found.append(Copy(number, operation.kind, lineage, row))
    pairs = [(row, copy) for row, found in zip(rows, copies, strict=True) for copy in found]
    reasons = iter(gate.reasons([row for row, _ in pairs], [copy.row for _, copy in pairs]))
    return [[replace(copy, dropped=next(reasons)) for copy in found] for found in copies]
