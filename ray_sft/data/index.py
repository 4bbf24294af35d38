"""The index of a split's shards: where each sample is, and what became of the rows.

    index/lengths.npy weights.npy   (samples,): of every sample, in the order of their ids
    index/shard.npy place.npy       (samples,): which shard holds it, and where in it
    index/position.npy copy.npy content.npy
    index/rejected.parquet          rows and copies that are not used, in the order of the source
    index/facts.json                names of the shards, figures, examples of copies; written last

The id of a sample is its rank among the accepted rows in the order of the source, each followed by
its accepted copies. It does not depend on how many blocks or workers wrote the shards, which is
what makes a resumed run exact. Building it takes some 40 bytes of memory a row.
"""

import heapq
from collections import Counter
from pathlib import Path

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

__all__ = ["FACTS", "INDEX", "Facts", "write_index"]

INDEX = "index"
FACTS = "facts.json"

_SHOWN_COPIES = 10
_SAME_AS_TRAINING = "says the same as an earlier row"
_SAME_AS_EVALUATION = "says the same as a row of evaluation"
_COLUMNS = [
    "position", "copy", "lineage", "row_id", "reason", "length", "truncated", "content", "weight",
    "left_out", "unchanged", "labels", "language", "place",
]  # fmt: skip


class Facts(Config):
    """What the index says beside its arrays."""

    shards: tuple[str, ...]
    """Names of the shards, in the order of their numbers."""
    summary: SplitSummary
    """What became of the rows."""
    copies: dict[str, tuple[tuple[int, int], ...]]
    """By augmentation, position and copy number of its first accepted copies."""


def write_index(folder: Path, *, removed: Duplicates | None = None) -> SplitSummary:
    """Writes the index of the shards in ``folder``; rows of ``removed`` are rejected.

    Raises:
        DataError: there is no accepted row in the shards, or the index cannot be written.
    """
    index = _Index(removed)
    files = row_files(folder)
    for number, path in enumerate(files.values()):
        for table in read_shard_rows(path, _COLUMNS):
            index.add(table, number)
    facts = Facts(shards=tuple(files), summary=index.summary(), copies=index.first_copies())
    target = folder / INDEX
    with writing_to(folder):
        target.mkdir(exist_ok=True)
        index.save(target)
        write_whole(target / FACTS, facts.model_dump_json())
    return facts.summary


_TYPES: dict[str, type] = {
    "position": np.int64,
    "copy": np.int32,
    "length": np.int32,
    "weight": np.float32,
    "content": np.uint64,
    "place": np.int32,
    "shard": np.int32,
    "labels": np.uint64,
    "is_truncated": np.bool_,
}


class _Index:
    """What is gathered on the way through the shards."""

    def __init__(self, removed: Duplicates | None) -> None:
        self._removed = removed
        self._columns: dict[str, list[Array]] = {
            name: [np.zeros(0, kind)] for name, kind in _TYPES.items()
        }
        self._rejected: list[pa.Table] = []
        self._labels: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()
        self._copies: dict[str, list[tuple[int, int]]] = {}
        self._num_left_out = 0
        self._num_unchanged = 0

    def add(self, table: pa.Table, shard: int) -> None:
        """Takes some lines of a shard."""
        self._num_left_out += pc.sum(table["left_out"]).as_py()
        table = self._with_removed(table.filter(pc.greater(table["copy"], LEFT_OUT)))
        is_accepted = pc.equal(table["reason"], "")
        self._rejected.append(table.filter(pc.invert(is_accepted)).select(_REJECTED.names))
        table = table.filter(is_accepted)
        self._num_unchanged += pc.sum(table["unchanged"]).as_py() or 0
        self._note_copies(table)
        rows = table.filter(pc.equal(table["copy"], 0))
        self._labels.update(_counts(pc.list_flatten(rows["labels"])))
        told = rows.filter(pc.not_equal(rows["language"], ""))
        self._languages.update(_counts(told["language"]))
        same = ("position", "copy", "length", "weight", "content", "place")
        columns = {name: table[name] for name in same}
        columns["is_truncated"] = pc.greater(table["truncated"], 0)
        for name, column in columns.items():
            self._columns[name].append(column.to_numpy().astype(_TYPES[name]))
        self._columns["shard"].append(np.full(table.num_rows, shard, np.int32))
        said = ["\x00".join(labels) for labels in table["labels"].to_pylist()]
        hashes = [xxhash.xxh64_intdigest(text.encode()) for text in said]
        self._columns["labels"].append(np.asarray(hashes, dtype=np.uint64))

    def _with_removed(self, table: pa.Table) -> pa.Table:
        """``table`` with the reasons of removed rows, and without their copies."""
        nothing = pa.nulls(table.num_rows, pa.int64())
        if self._removed is None or not len(self._removed.positions):
            return table.append_column("original", nothing)
        position = table["position"].to_numpy()
        line = np.searchsorted(self._removed.positions, position)
        line = np.minimum(line, len(self._removed.positions) - 1)
        is_removed = self._removed.positions[line] == position
        reasons = np.where(self._removed.is_leak[line], _SAME_AS_EVALUATION, _SAME_AS_TRAINING)
        mask = pa.array(is_removed)
        reason = pc.if_else(mask, pa.array(reasons.tolist(), pa.string()), table["reason"])
        original = pc.if_else(mask, pa.array(self._removed.originals[line], pa.int64()), nothing)
        table = table.set_column(table.column_names.index("reason"), "reason", reason)
        table = table.append_column("original", original)
        return table.filter(pc.invert(pc.and_(mask, pc.greater(table["copy"], 0))))

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

    def summary(self) -> SplitSummary:
        """The figures; raises where there is no accepted row."""
        self._gather()
        rejected = self._all_rejected
        is_rejected_row = rejected["copy"].to_numpy() == 0
        reasons = Counter(rejected.filter(pa.array(is_rejected_row))["reason"].to_pylist())
        is_row = self.arrays["copy"] == 0
        num_rows = int(is_row.sum())
        if not num_rows:
            raise DataError(self._why_nothing(reasons))
        lengths = self.arrays["length"]
        num_duplicates, num_conflicts = _repetitions(
            self.arrays["content"][is_row], self.arrays["labels"][is_row]
        )
        return SplitSummary(
            num_rows=num_rows + int(is_rejected_row.sum()),
            num_left_out=self._num_left_out,
            num_accepted=num_rows,
            num_rejected=int(is_rejected_row.sum()),
            num_truncated=int(self.arrays["is_truncated"][is_row].sum()),
            num_duplicates=num_duplicates,
            num_augmented=len(is_row) - num_rows,
            num_unchanged=self._num_unchanged,
            num_rejected_copies=int((~is_rejected_row).sum()),
            num_tokens=int(lengths.sum(dtype=np.int64)),
            longest=int(lengths.max()),
            lengths=Histogram.of(lengths[is_row]),
            labels=_ordered(self._labels),
            num_conflicts=num_conflicts,
            languages=_ordered(self._languages),
            reasons=_ordered(reasons),
        )

    def _gather(self) -> None:
        """All columns in the order of sample ids, each let go as it is put together."""
        joined = {name: np.concatenate(self._columns.pop(name)) for name in list(self._columns)}
        order = np.lexsort((joined["copy"], joined["position"]))
        self.arrays = {name: joined.pop(name)[order] for name in list(joined)}
        self._all_rejected = pa.concat_tables([_REJECTED.empty_table(), *self._rejected]).sort_by(
            [("position", "ascending"), ("copy", "ascending")]
        )

    def _why_nothing(self, reasons: Counter[str]) -> str:
        if reasons:
            reason, count = reasons.most_common(1)[0]
            return (
                f"none of the {sum(reasons.values())} rows can be used; the most frequent reason "
                f"({count} rows): {reason}."
            )
        if self._num_left_out:
            return f"where and portion leave out all of the {self._num_left_out} rows of the data."
        return "the data has a header but no rows, or its `skip` leaves none."

    def save(self, folder: Path) -> None:
        """Writes the arrays and the rejected rows."""
        names = {"length": "lengths", "weight": "weights"}
        for name in ("position", "copy", "content", "length", "weight", "shard", "place"):
            np.save(folder / f"{names.get(name, name)}.npy", self.arrays[name])
        pq.write_table(self._all_rejected, folder / "rejected.parquet")


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


def _repetitions(content: Array, labels: Array) -> tuple[int, int]:
    """How many rows say what an earlier one says, and how many of them with another label."""
    _, first, group = np.unique(content, return_index=True, return_inverse=True)
    return len(content) - len(first), int((labels != labels[first][group]).sum())


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    return {pair["values"]: pair["counts"] for pair in pc.value_counts(values).to_pylist()}


def _ordered(counts: Counter[str]) -> dict[str, int]:
    """Most frequent first, then by name."""
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
