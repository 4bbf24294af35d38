"""The index of a split's shards: where each sample is, and what became of the rows.

    index/lengths.npy weights.npy   (samples,): of every sample, in the order of their ids
    index/shard.npy place.npy       (samples,): which shard holds it, and where in it
    index/position.npy copy.npy content.npy
    index/rejected.parquet          rows and copies that are not used, in the order of the source
    index/facts.json                names of the shards, figures, examples of copies; written last

The id of a sample is its rank among the accepted rows in the order of the source, each followed by
its accepted copies. It does not depend on how many blocks or workers wrote the shards, which is
what makes a resumed run exact. The shards are read once for every column, so that building it takes
some 30 bytes of memory a row and not all that is known of one.
"""

import heapq
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from ray_sft.core import Config, DataError
from ray_sft.core.whole_files import write_whole, writing_to
from ray_sft.data.quality.duplicates import Duplicates
from ray_sft.data.shards import LEFT_OUT, read_shard_rows, row_files
from ray_sft.data.summary import Histogram, SplitSummary
from ray_sft.tasks import Array

__all__ = ["FACTS", "INDEX", "Facts", "is_among", "write_index"]

INDEX = "index"
FACTS = "facts.json"

_SHOWN_COPIES = 10
_SAME_AS_TRAINING = "says the same as an earlier row"
_SAME_AS_EVALUATION = "says the same as a row of evaluation"
_CHUNK = 1 << 16
_READ = [
    "position", "copy", "lineage", "row_id", "reason", "truncated", "left_out", "unchanged",
    "labels", "language",
]  # fmt: skip
"""What is looked at once; other columns are read one after the other."""


class Facts(Config):
    """What the index says beside its arrays."""

    shards: tuple[str, ...]
    """Names of the shards, in the order of their numbers."""
    summary: SplitSummary
    """What became of the rows."""
    copies: dict[str, tuple[tuple[int, int], ...]]
    """By augmentation, position and copy number of its first accepted copies."""


def write_index(
    folder: Path, *, removed: Duplicates | None = None, may_be_empty: bool = False
) -> SplitSummary:
    """Writes the index of the shards in ``folder``; rows of ``removed`` are rejected.

    Raises:
        DataError: there is no accepted row in the shards and they may not be empty, or the index
            cannot be written.
    """
    files = row_files(folder)
    found = _Findings(removed)
    lines = _Lines(list(files.values()))
    for _, table in lines.tables(_READ):
        lines.accept(found.add(table))
    if not lines.num_accepted and not may_be_empty:
        raise DataError(found.why_nothing())
    target = folder / INDEX
    with writing_to(folder):
        target.mkdir(exist_ok=True)
        figures = _write_arrays(lines, target)
        pq.write_table(found.rejected(), target / "rejected.parquet")
        summary = SplitSummary(**found.figures(), **figures)
        facts = Facts(shards=tuple(files), summary=summary, copies=found.first_copies())
        write_whole(target / FACTS, facts.model_dump_json())
    return summary


def _write_arrays(lines: "_Lines", folder: Path) -> dict[str, Any]:
    """Writes a column after the other, so that two of them are never held; figures of them."""

    def written(name: str, array: Array) -> Array:
        np.save(folder / f"{name}.npy", array)
        return array

    lines.put_in_order()
    written("position", lines.column("position"))
    is_row = written("copy", lines.column("copy")) == 0
    for name in ("place", "shard"):
        written(name, lines.column(name))
    written("weights", lines.column("weight"))
    lengths = written("lengths", lines.column("length"))
    figures = {
        "num_tokens": int(lengths.sum(dtype=np.int64)),
        "longest": int(lengths.max(initial=0)),
        "lengths": Histogram.of(lengths[is_row]),
    }
    del lengths
    content = written("content", lines.column("content"))
    num_duplicates, num_conflicts = _repetitions(lines, content, is_row)
    return figures | {"num_duplicates": num_duplicates, "num_conflicts": num_conflicts}


_TYPES: dict[str, type] = {
    "position": np.int64,
    "copy": np.int32,
    "length": np.int32,
    "weight": np.float32,
    "content": np.uint64,
    "place": np.int32,
    "shard": np.int32,
}


class _Lines:
    """The accepted lines of all shards, read a column at a time and brought into order."""

    def __init__(self, files: list[Path]) -> None:
        """Of the files of rows of all shards; `accept` is told of all their lines, in order."""
        self._files = files
        self._accepted: list[Array] = [np.zeros(0, bool)]
        self._rank: Array = np.zeros(0, np.int64)
        self.num_accepted = 0

    def tables(self, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
        """All lines, some thousand at a time, with the number of their shard."""
        for number, path in enumerate(self._files):
            for table in read_shard_rows(path, columns):
                yield number, table

    def accept(self, is_accepted: Array) -> None:
        """Which of the next lines are accepted."""
        self._accepted.append(is_accepted)
        self.num_accepted += int(is_accepted.sum())

    def put_in_order(self) -> None:
        """Finds the sample id of every accepted line: their order is by position and copy."""
        self._accepted = [np.concatenate(self._accepted)]
        keys = ["copy", "position"]
        columns: list[Array] = [np.empty(self.num_accepted, _TYPES[name]) for name in keys]
        for _, start, table in self._accepted_tables(keys):
            for column, values in zip(columns, table.columns, strict=True):
                column[start : start + table.num_rows] = values.to_numpy()
        order = np.lexsort(columns)
        self._rank = np.empty(self.num_accepted, np.int64)
        self._rank[order] = np.arange(self.num_accepted)

    def _ids(self, start: int, table: pa.Table) -> Array:
        """The sample ids of the lines of a table before which there are ``start`` others."""
        return self._rank[start : start + table.num_rows]

    def _accepted_tables(self, columns: list[str]) -> Iterator[tuple[int, int, pa.Table]]:
        """The accepted lines, with their shard and how many came before."""
        (is_accepted,) = self._accepted
        line, start = 0, 0
        for shard, table in self.tables(columns):
            chosen = table.filter(pa.array(is_accepted[line : line + table.num_rows]))
            yield shard, start, chosen
            line += table.num_rows
            start += chosen.num_rows

    def column(self, name: str) -> Array:
        """(samples,): a column, or the number of the ``shard``, in the order of sample ids."""
        found: Array = np.empty(self.num_accepted, _TYPES[name])
        for shard, start, table in self._accepted_tables(["copy" if name == "shard" else name]):
            values = shard if name == "shard" else table[name].to_numpy()
            found[self._ids(start, table)] = values
        return found

    def label_hashes(self, wanted: Array) -> Array:
        """(wanted,): a hash of the labels of some samples, given by their ids in order."""
        found = np.zeros(len(wanted), np.uint64)
        for _, start, table in self._accepted_tables(["labels"]):
            ids = self._ids(start, table)
            place = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
            is_wanted = wanted[place] == ids
            labels = table["labels"].filter(pa.array(is_wanted)).to_pylist()
            said = ["\x00".join(names).encode() for names in labels]
            found[place[is_wanted]] = [xxhash.xxh64_intdigest(text) for text in said]
        return found


class _Findings:
    """What is found on the way through the shards, but for what is known of every sample."""

    def __init__(self, removed: Duplicates | None) -> None:
        """``removed`` are the rows to reject."""
        self._removed = removed
        self._rejected: list[pa.Table] = []
        self._reasons: Counter[str] = Counter()
        self._labels: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._copies: dict[str, list[tuple[int, int]]] = {}
        self._counts: Counter[str] = Counter()

    def add(self, table: pa.Table) -> Array:
        """Takes some lines of a shard; (lines,): which of them are samples."""
        self._counts["num_left_out"] += pc.sum(table["left_out"]).as_py()
        is_line = table["copy"].to_numpy() > LEFT_OUT
        table, is_kept = self._with_removed(table)
        is_accepted: Array = is_line & is_kept & pc.equal(table["reason"], "").to_numpy()
        rejected = table.filter(pa.array(is_line & is_kept & ~is_accepted))
        self._rejected.append(rejected.select(_REJECTED.names))
        self._note_accepted(table.filter(pa.array(is_accepted)))
        rows = rejected.filter(pc.equal(rejected["copy"], 0))
        self._reasons.update(_counts(rows["reason"]))
        self._counts["num_rejected"] += rows.num_rows
        self._counts["num_rejected_copies"] += rejected.num_rows - rows.num_rows
        return is_accepted

    def _with_removed(self, table: pa.Table) -> tuple[pa.Table, Array]:
        """``table`` with the reasons of removed rows, and which lines are no copies of those."""
        nothing = pa.nulls(table.num_rows, pa.int64())
        if self._removed is None or not len(self._removed.positions):
            return table.append_column("original", nothing), np.ones(table.num_rows, bool)
        position = table["position"].to_numpy()
        line = np.searchsorted(self._removed.positions, position)
        line = np.minimum(line, len(self._removed.positions) - 1)
        is_removed = self._removed.positions[line] == position
        reasons = np.where(self._removed.is_leak[line], _SAME_AS_EVALUATION, _SAME_AS_TRAINING)
        mask = pa.array(is_removed)
        reason = pc.if_else(mask, pa.array(reasons.tolist(), pa.string()), table["reason"])
        original = pc.if_else(mask, pa.array(self._removed.originals[line], pa.int64()), nothing)
        table = table.set_column(table.column_names.index("reason"), "reason", reason)
        is_kept = ~(is_removed & (table["copy"].to_numpy() > 0))
        return table.append_column("original", original), is_kept

    def _note_accepted(self, table: pa.Table) -> None:
        self._counts["num_unchanged"] += pc.sum(table["unchanged"]).as_py() or 0
        self._note_copies(table)
        rows = table.filter(pc.equal(table["copy"], 0))
        self._counts["num_accepted"] += rows.num_rows
        self._counts["num_augmented"] += table.num_rows - rows.num_rows
        self._counts["num_truncated"] += pc.sum(pc.greater(rows["truncated"], 0)).as_py() or 0
        self._labels.update(_counts(pc.list_flatten(rows["labels"])))
        told = rows.filter(pc.not_equal(rows["language"], ""))
        self._languages.update(_counts(told["language"]))

    def _note_copies(self, table: pa.Table) -> None:
        copies = table.filter(pc.greater(table["copy"], 0)).select(["position", "copy", "lineage"])
        for position, copy, lineage in zip(*copies.to_pydict().values(), strict=True):
            kind = lineage.partition("#")[0]
            first = self._copies.setdefault(kind, [])
            if len(first) < _SHOWN_COPIES or (position, copy) < first[-1]:
                self._copies[kind] = heapq.nsmallest(_SHOWN_COPIES, [*first, (position, copy)])

    def first_copies(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """See `Facts.copies`."""
        return {kind: tuple(copies) for kind, copies in sorted(self._copies.items())}

    def rejected(self) -> pa.Table:
        """Rows and copies that are not used, in the order of the source."""
        return pa.concat_tables([_REJECTED.empty_table(), *self._rejected]).sort_by(
            [("position", "ascending"), ("copy", "ascending")]
        )

    def figures(self) -> dict[str, Any]:
        """Most fields of a `SplitSummary`."""
        counts = {name: self._counts[name] for name in _COUNTED}
        return counts | {
            "num_rows": counts["num_accepted"] + counts["num_rejected"],
            "labels": _ordered(self._labels),
            "languages": _ordered(self._languages),
            "reasons": _ordered(self._reasons),
        }

    def why_nothing(self) -> str:
        """Why there is no accepted row."""
        if self._reasons:
            reason, count = self._reasons.most_common(1)[0]
            return (
                f"none of the {self._reasons.total()} rows can be used; the most frequent reason "
                f"({count} rows): {reason}."
            )
        if num_left_out := self._counts["num_left_out"]:
            return f"where and portion leave out all of the {num_left_out} rows of the data."
        return "the data has a header but no rows, or its `skip` leaves none."


_COUNTED = (
    "num_left_out", "num_accepted", "num_rejected", "num_truncated", "num_augmented",
    "num_unchanged", "num_rejected_copies",
)  # fmt: skip


_REJECTED = pa.schema(
    {
        "position": pa.int64(),
        "copy": pa.int32(),
        "lineage": pa.string(),
        "row_id": pa.string(),
        "reason": pa.string(),
        "original": pa.int64(),
    }
)


def _repetitions(lines: _Lines, content: Array, is_row: Array) -> tuple[int, int]:
    """How many rows say what an earlier one says, and how many of them with another label."""
    ordered = np.sort(content[is_row])
    is_again = ordered[1:] == ordered[:-1]
    num_duplicates = int(is_again.sum())
    if not num_duplicates:
        return 0, 0
    repeated = np.unique(ordered[1:][is_again])
    del ordered, is_again
    wanted = np.flatnonzero(is_row & is_among(content, repeated))
    labels = lines.label_hashes(wanted)
    _, first, group = np.unique(content[wanted], return_index=True, return_inverse=True)
    return num_duplicates, int((labels != labels[first][group]).sum())


def is_among(values: Array, ordered: Array) -> Array:
    """(values,): which of them stand in ``ordered``, whose members are distinct and ascending."""
    found = np.zeros(len(values), bool)
    if len(ordered):
        for start in range(0, len(values), _CHUNK):
            some = values[start : start + _CHUNK]
            place = np.minimum(np.searchsorted(ordered, some), len(ordered) - 1)
            found[start : start + _CHUNK] = ordered[place] == some
    return found


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(values).to_pylist()}


def _ordered(counts: Counter[str]) -> dict[str, int]:
    """Most frequent first, then by name."""
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
