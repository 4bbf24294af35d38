"""The rows of training and their changed copies, written out for people and other programs."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from ray_sft.core import Config
from ray_sft.core.whole_files import whole_file, writing_to
from ray_sft.data.augment import AnyAugmentation, Copy, Gate, copies_of
from ray_sft.data.quality import Quality, RowCheck
from ray_sft.data.rows import in_order, read_rows, readable_errors, split_position, used_rows
from ray_sft.data.sources import Source
from ray_sft.tasks import Array, Rejected, Row

__all__ = ["AugmentedSummary", "write_augmented"]


class AugmentedSummary(Config):
    """How many lines were written."""

    num_rows: int
    """Rows of the source."""
    num_copies: int
    """Changed copies of them."""
    num_rejected: int
    """Rows that could not be used, which are not among the lines."""
    num_unchanged: int
    """Copies left out, since they are as the row itself or as another copy of it."""
    num_dropped: int
    """Copies that the gate did not let through."""


def write_augmented(
    source: Source,
    augment: Sequence[AnyAugmentation],
    quality: Quality,
    path: Path,
    *,
    seed: int,
    gate: Gate | None = None,
    on_rows: Callable[[int], None] = lambda _: None,
) -> AugmentedSummary:
    """Writes JSON lines: every row as it is trained on, each followed by its changed copies.

    A line has the columns of the row and a ``lineage``: the ``parent`` (file and row number of the
    source) and the ``operation`` that changed it, empty for the row itself. The file is there when
    it is whole.

    Raises:
        DataError: the source cannot be read, or the file not be written.
    """
    change = _Change(tuple(augment), RowCheck(quality), seed, gate or Gate())
    counts = dict.fromkeys(AugmentedSummary.model_fields, 0)
    with (
        readable_errors(),
        writing_to(path.parent),
        whole_file(path) as draft,
        draft.open("w", encoding="utf-8") as file,
    ):
        for line in _lines(source, change):
            counts[line["counts"]] += 1
            counts["num_unchanged"] += int(line["unchanged"])
            if line["text"]:
                file.write(line["text"] + "\n")
            on_rows(counts["num_rows"])
    return AugmentedSummary(**counts)


def _lines(source: Source, change: "_Change") -> Iterator[dict[str, Any]]:
    rows = read_rows(source, source.slices())
    lines = rows.map_batches(cast(Any, change), batch_size=256)
    with in_order():
        yield from lines.iter_rows()


@dataclass(frozen=True, slots=True)
class _Change:
    """Rows to the lines of rows and copies; runs as a Ray task per block."""

    augment: tuple[AnyAugmentation, ...]
    check: RowCheck
    seed: int
    gate: Gate

    def __call__(self, batch: dict[str, Array]) -> dict[str, Array]:
        lines: list[tuple[str, str, int]] = []
        given = [json.loads(text) for text in batch["row"]]
        rows = used_rows(given, batch["reason"], self.check)
        used = [
            (int(position), row)
            for position, row in zip(batch["position"], rows, strict=True)
            if not isinstance(row, Rejected)
        ]
        num_rejected = len(rows) - len(used) - int((batch["left_out"] > 0).sum())
        lines += [("", "num_rejected", 0)] * num_rejected
        positions, usable = [position for position, _ in used], [row for _, row in used]
        copies = copies_of(usable, positions, self.augment, seed=self.seed, gate=self.gate)
        for (position, row), found in zip(used, copies, strict=True):
            lines += self._of_row(position, row, found)
        texts, counts, unchanged = zip(*lines, strict=True) if lines else ((), (), ())
        return {
            "text": np.asarray(texts, dtype=object),
            "counts": np.asarray(counts, dtype=object),
            "unchanged": np.asarray(unchanged, dtype=np.int64),
        }

    def _of_row(self, position: int, row: Row, found: Sequence[Copy]) -> list[tuple[str, str, int]]:
        """The row and its copies: the text, what it counts as, how many copies changed nothing."""
        seen = [dict(row)]
        copies = []
        for copy in found:
            if copy.dropped:
                copies.append(("", "num_dropped", 0))
            elif copy.row not in seen:
                seen.append(copy.row)
                copies.append((_line(copy.row, position, copy.lineage), "num_copies", 0))
        unchanged = sum(operation.copies for operation in self.augment) - len(copies)
        return [(_line(row, position, ""), "num_rows", unchanged), *copies]


def _line(row: Row, position: int, operation: str) -> str:
    file, number = split_position(position)
    lineage = {"parent": {"file": file, "row": number}, "operation": operation}
    return json.dumps({**row, "lineage": lineage}, ensure_ascii=False, default=str)
