"""Apache Parquet files."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import pyarrow
import pyarrow.parquet

from ray_sft.core import DataError
from ray_sft.core.storage import open_file
from ray_sft.data.sources.base import RawRow
from ray_sft.data.sources.files import Files

__all__ = ["Parquet"]


class Parquet(Files):
    """Apache Parquet files; those of one source may have different columns."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)

    source: Literal["parquet"] = "parquet"

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        with self._file(part) as file:
            names: list[str] = file.schema_arrow.names
        return names

    def count_rows(self, part: str, *, limit: int | None) -> int:
        """See `Source.count_rows`; the file says it."""
        with self._file(part) as file:
            size = int(file.metadata.num_rows)
        return size if limit is None else min(size, limit)

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`."""
        with self._file(part) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()

    @contextmanager
    def _file(self, part: str) -> Iterator[Any]:
        with open_file(part) as stream:
            try:
                yield pyarrow.parquet.ParquetFile(stream)
            except (pyarrow.ArrowInvalid, OSError) as error:
                raise DataError(f"data file '{part}' is no whole Parquet file: {error}") from None
