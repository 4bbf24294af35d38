"""Encoded shards, read back by global sample id.

The id of a sample is its rank among the accepted rows in the order of the source, each followed by
its accepted copies. It does not depend on how many blocks or workers wrote the shards, which is
what makes a resumed run exact.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from ray_sft.core import Config, DataError
from ray_sft.data.quality.duplicates import Duplicates
from ray_sft.tasks import Array, Example

__all__ = ["LEFT_OUT", "SampleStore", "SplitSummary", "write_removed"]

_NUM_BINS = 30

LEFT_OUT = -1
"""Number in place of a copy's on a line that only counts rows that the recipe does not want."""


class Histogram(Config):
    """Counts of lengths between edges."""

    edges: tuple[int, ...]
    """One more than there are counts; each count is of lengths from its edge to below the next."""
    counts: tuple[int, ...]
    """How many."""
    quartiles: tuple[int, int, int]
    """A quarter, a half and three quarters of the lengths are at most this."""

    @classmethod
    def of(cls, lengths: Array) -> Self:
        """Of some lengths, at least one."""
        edges = np.unique(np.linspace(0, int(lengths.max()) + 1, _NUM_BINS + 1).round())
        counts, _ = np.histogram(lengths, edges)
        low, middle, high = np.percentile(lengths, [25, 50, 75], method="inverted_cdf").tolist()
        return cls(
            edges=tuple(int(edge) for edge in edges),
            counts=tuple(counts.tolist()),
            quartiles=(int(low), int(middle), int(high)),
        )


class SplitSummary(Config):
    """What became of the rows of one split."""

    num_rows: int
    """Rows that the recipe asks for, good and bad."""
    num_left_out: int = 0
    """Rows of the source that `where` and `portion` leave out."""
    num_accepted: int
    """Rows that are trained or evaluated."""
    num_rejected: int
    """Rows in ``rejected.jsonl``."""
    num_truncated: int
    """Accepted rows that lost their end."""
    num_duplicates: int
    """Accepted rows whose content another row before them has too; kept, but reported."""
    num_augmented: int = 0
    """Changed copies of accepted rows that are trained beside them."""
    num_unchanged: int = 0
    """Copies left out, since the model would see the row, or another copy of it, once more."""
    num_rejected_copies: int = 0
    """Changed copies that the task cannot use; in ``rejected.jsonl`` too, under their lineage."""
    num_tokens: int
    """Length of the accepted rows and copies together."""
    longest: int
    """Length of the longest accepted row or copy."""
    lengths: Histogram
    """How many accepted rows have which length."""
    labels: dict[str, int] = Field(default_factory=dict)
    """How many accepted rows (or words, of tagged ones) have which label, most frequent first."""
    num_conflicts: int = 0
    """Accepted rows that say the same as an earlier one and have another label."""
    languages: dict[str, int] = Field(default_factory=dict)
    """How many accepted rows seem to be in which language, most frequent first."""
    reasons: dict[str, int]
    """Why rows were rejected."""


_REMOVED = "removed/rows.parquet"
_SAME_AS_TRAINING = "says the same as an earlier row"
_SAME_AS_EVALUATION = "says the same as a row of evaluation"


def write_removed(folder: Path, duplicates: Duplicates) -> None:
    """Says of which rows of a folder's shards the store shall make no use."""
    reasons = [_SAME_AS_EVALUATION if leak else _SAME_AS_TRAINING for leak in duplicates.is_leak]
    table = pa.table(
        {
            "position": pa.array(duplicates.positions, pa.int64()),
            "original": pa.array(duplicates.originals, pa.int64()),
            "removed": pa.array(reasons, pa.string()),
        }
    )
    path = folder / _REMOVED
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path)


class SampleStore:
    """Random access to the examples of one split."""

    def __init__(self, folder: Path) -> None:
        """Opens the shards in ``folder``.

        Raises:
            DataError: there is no accepted row in them.
        """
        files = sorted(folder.glob("*.parquet"))
        tables = [_read(file) for file in files]
        tables = [table for table in tables if table.num_rows]
        if not tables:
            raise DataError("the data has a header but no rows, or its `skip` leaves none.")
        table = pa.concat_tables(tables, promote_options="default")
        is_sample = pc.greater(table["copy"], LEFT_OUT)
        self.num_left_out = int(pc.sum(table["left_out"]).as_py())
        table = table.filter(is_sample)
        if not table.num_rows:
            raise DataError(
                f"where and portion leave out all of the {self.num_left_out} rows of the data."
            )
        table = _without_removed(table, folder / _REMOVED)
        order = np.lexsort((table["copy"].to_numpy(), table["position"].to_numpy()))
        table = table.take(order)
        is_accepted = np.asarray([not reason for reason in table["reason"].to_pylist()])
        self.rejected = table.filter(pa.array(~is_accepted))
        self.accepted = table.filter(pa.array(is_accepted)).combine_chunks()
        if not self.accepted.num_rows:
            reason, count = Counter(self.rejected["reason"].to_pylist()).most_common(1)[0]
            raise DataError(
                f"none of the {self.rejected.num_rows} rows can be used; the most frequent reason "
                f"({count} rows): {reason}."
            )
        self.lengths: Array = self.accepted["length"].to_numpy()
        self.weights: Array = self.accepted["weight"].to_numpy()
        self._arrays = self._columns_with("array.")
        self._scalars = self._columns_with("scalar.")

    def _columns_with(self, prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): self.accepted[name].combine_chunks()
            for name in self.accepted.column_names
            if name.startswith(prefix)
        }

    def __len__(self) -> int:
        """The number of accepted rows and copies."""
        return int(self.accepted.num_rows)

    def examples(self, ids: Sequence[int]) -> list[Example]:
        """The examples with the given sample ids, in that order."""
        return [self._example(int(sample)) for sample in ids]

    def all(self) -> list[Example]:
        """Every example, in order."""
        return self.examples(range(len(self)))

    def _example(self, sample: int) -> Example:
        arrays = {name: column[sample].values.to_numpy() for name, column in self._arrays.items()}
        for name, column in self._scalars.items():
            arrays[name] = np.asarray(column[sample].as_py())
        return Example(arrays, int(self.lengths[sample]))

    def summary(self) -> SplitSummary:
        """Counts of what became of the rows."""
        is_row = self.accepted["copy"].to_numpy() == 0
        rejected = self.rejected.filter(pc.equal(self.rejected["copy"], 0))
        rows = self.accepted.filter(pa.array(is_row))
        content = rows["content"].to_pylist()
        num_rejected = rejected.num_rows
        return SplitSummary(
            num_rows=len(content) + num_rejected,
            num_left_out=self.num_left_out,
            num_accepted=len(content),
            num_rejected=num_rejected,
            num_truncated=int((self.accepted["truncated"].to_numpy()[is_row] > 0).sum()),
            num_duplicates=len(content) - len(set(content)),
            num_augmented=len(self) - len(content),
            num_unchanged=int(self.accepted["unchanged"].to_numpy().sum()),
            num_rejected_copies=self.rejected.num_rows - num_rejected,
            num_tokens=int(self.lengths.sum()),
            longest=int(self.lengths.max()),
            lengths=Histogram.of(self.lengths[is_row]),
            labels=_counts(pc.list_flatten(rows["labels"])),
            num_conflicts=_num_conflicts(content, rows["labels"].to_pylist()),
            languages=_counts(rows["language"]),
            reasons=dict(Counter(rejected["reason"].to_pylist()).most_common()),
        )

    def copies(self, kind: str, *, limit: int) -> list[tuple[int, int]]:
        """Position and copy number of the first accepted copies that ``kind`` made."""
        made = self.accepted.filter(pc.starts_with(self.accepted["lineage"], f"{kind}#"))
        made = made.slice(0, limit)
        return list(zip(made["position"].to_pylist(), made["copy"].to_pylist(), strict=True))

    def content(self) -> set[str]:
        """Hashes of what the accepted rows say, without their labels."""
        return set(self.accepted["content"].to_pylist())


def _counts(values: Any) -> dict[str, int]:
    """How often each value stands there, most frequent first, then by name."""
    pairs = [(pair["values"], pair["counts"]) for pair in pc.value_counts(values).to_pylist()]
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def _num_conflicts(content: Sequence[str], labels: Sequence[Sequence[str]]) -> int:
    first: dict[str, Sequence[str]] = {}
    pairs = zip(content, labels, strict=True)
    return sum(first.setdefault(said, had) != had for said, had in pairs)


def _read(file: Path) -> pa.Table:
    """A shard without what only finding duplicates needs."""
    opened = pq.ParquetFile(file)
    return opened.read([name for name in opened.schema_arrow.names if name != "signature"])


def _without_removed(table: pa.Table, path: Path) -> pa.Table:
    """``table`` with the reasons of removed rows, and without their copies."""
    if not path.is_file():
        return table.append_column("original", pa.nulls(table.num_rows, pa.int64()))
    removed = pq.read_table(path)
    line = pc.index_in(table["position"], value_set=removed["position"].combine_chunks())
    is_removed = pc.is_valid(line)
    reason = pc.if_else(is_removed, removed["removed"].take(line), table["reason"])
    table = table.set_column(table.column_names.index("reason"), "reason", reason)
    table = table.append_column("original", removed["original"].take(line))
    return table.filter(pc.invert(pc.and_(is_removed, pc.greater(table["copy"], 0))))
