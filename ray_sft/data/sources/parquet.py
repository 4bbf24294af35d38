"""Apache Parquet files."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import pyarrow
import pyarrow.parquet

from ray_sft.core import DataError
from ray_sft.data.sources.base import RawRow, Source

__all__ = ["Parquet"]


class Parquet(Source):
    """Apache Parquet files."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)

    source: Literal["parquet"] = "parquet"

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        names: list[str] = self._file(part).schema_arrow.names
        return names

    def count_rows(self, part: str, *, limit: int | None) -> int:
        """See `Source.count_rows`; the file says it."""
        size = int(self._file(part).metadata.num_rows)
        return size if limit is None else min(size, limit)

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`."""
        for batch in self._file(part).iter_batches(batch_size=1024):
            yield from batch.to_pylist()

    def _file(self, part: str) -> Any:
        try:
            return pyarrow.parquet.ParquetFile(part)
        except pyarrow.ArrowInvalid as error:
            raise DataError(f"data file '{part}' is no Parquet file: {error}") from None
