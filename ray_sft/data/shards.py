"""Shards: what the workers of the data stage leave behind, a pair of files each.

    NAME.arrow         the samples, in batches of 64: read at random, a batch at a time
    NAME.rows.parquet  what is known of every row and copy, rejected ones included

Both are written beside their names and moved there when they are whole, the second last; a task
that is run again writes the same files anew. The order of rows over the shards means nothing: the
index brings them into the order of the source.

Arrow's own files rather than Parquet hold the samples: one of them is read in 11 microseconds
instead of 91, and what is opened for that does not grow with their number.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ray.data import Datasink
from ray.data.block import Block

from ray_sft.core.whole_files import whole_file, writing_to

__all__ = [
    "BATCH_ROWS",
    "LEFT_OUT",
    "ShardSink",
    "read_shard_rows",
    "row_files",
    "sample_file",
    "write_shard",
    "write_shards",
]

BATCH_ROWS = 64
"""Samples of a batch; the last one of a shard may have fewer."""
LEFT_OUT = -1
"""Number in place of a copy's on a line that only counts rows that the recipe does not want."""

_SHARD_BYTES = 64 * 1024 * 1024
"""Of the blocks that are held until a shard of them is written."""
_ROWS = ".rows.parquet"
_READ_ROWS = 1 << 16
_PREFIXES = ("array.", "scalar.")


class ShardSink(Datasink[None]):
    """Writes the blocks of a Ray data set as shards of one folder."""

    def __init__(self, folder: Path) -> None:
        """Into ``folder``, which is made."""
        self.folder = folder

    def write(self, blocks: Iterable[Block], ctx: Any) -> None:
        """See Ray's `Datasink.write`; a task that is run again takes the same names.

        Raises:
            DataError: the disk is full, or the folder cannot be written.
        """
        write_shards(self.folder, blocks, writer=ctx.task_idx)


def write_shards(folder: Path, tables: Iterable[Any], *, writer: int = 0) -> None:
    """Writes encoded rows as shards of about 64 MB, named after who writes them.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    for number, some in enumerate(_shards_of(tables)):
        write_shard(folder, f"{writer:06}-{number:04}", some)


def _shards_of(blocks: Iterable[Any]) -> Iterator[list[Any]]:
    kept: list[Any] = []
    for block in blocks:
        kept.append(block)
        if sum(table.nbytes for table in kept) >= _SHARD_BYTES:
            yield kept
            kept = []
    yield kept


def write_shard(folder: Path, name: str, tables: Iterable[Any]) -> None:
    """Writes encoded rows as the shard of a name.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    whole = [table for table in tables if table.num_rows]
    if not whole:
        return
    table = pa.concat_tables(whole, promote_options="default").combine_chunks()
    is_sample = pc.and_(pc.equal(table["reason"], ""), pc.greater(table["copy"], LEFT_OUT))
    samples = [column for column in table.column_names if column.startswith(_PREFIXES)]
    rows = table.drop_columns(samples)
    place = np.cumsum(is_sample.to_numpy()) - 1
    rows = rows.append_column("place", pa.array(place, pa.int64()))
    with writing_to(folder):
        _write_samples(sample_file(folder, name), table.filter(is_sample).select(samples))
        with whole_file(folder / f"{name}{_ROWS}") as draft:
            pq.write_table(rows, draft)


def _write_samples(path: Path, table: pa.Table) -> None:
    with (
        whole_file(path) as draft,
        pa.OSFile(str(draft), "wb") as file,
        pa.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table.combine_chunks(), max_chunksize=BATCH_ROWS)


def sample_file(folder: Path, name: str) -> Path:
    """The samples of a shard."""
    return folder / f"{name}.arrow"


def row_files(folder: Path) -> dict[str, Path]:
    """The files of rows by the names of their shards, in the order of the names."""
    found = sorted(folder.glob(f"*{_ROWS}"))
    return {path.name.removesuffix(_ROWS): path for path in found if path.name[0] != "."}


def read_shard_rows(path: Path, columns: list[str]) -> Iterator[pa.Table]:
    """What is known of the rows of a shard, some thousand at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_READ_ROWS, columns=columns):
            yield pa.table(batch)
