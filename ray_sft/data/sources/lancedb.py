"""Tables of LanceDB, in a folder or in object storage."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import Field

from ray_sft.core import DataError, reason_of
from ray_sft.data.sources.base import RawRow, Source

__all__ = ["LanceDb"]

_ROWS_AT_ONCE = 2000


class LanceDb(Source):
    """Rows of a LanceDB table, as they stand in one of its versions."""

    source: Literal["lancedb"] = "lancedb"
    path: str = Field(min_length=1)
    """The database: a folder, or any address that LanceDB opens (s3://bucket/folder)."""
    table: str = Field(min_length=1)
    """The table."""

    @property
    def title(self) -> str:
        """See `Source.title`."""
        return f"{self.path}/{self.table}"

    def parts(self) -> list[str]:
        """The table's present version: one reader, which sees no later change."""
        with self._opened("") as table:
            version, is_empty = table.version, not table.count_rows()
        if is_empty:
            raise DataError(f"'{self.title}' has no rows.")
        return [str(version)]

    def fingerprint(self) -> str:
        """SHA-256 over the settings and the table's version."""
        with self._opened("") as table:
            text = f"{self.model_dump_json()}|{table.version}"
        return hashlib.sha256(text.encode()).hexdigest()

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        with self._opened(part) as table:
            names: list[str] = table.schema.names
        return names

    def count_rows(self, part: str, *, limit: int | None) -> int:
        """See `Source.count_rows`; the table says it."""
        with self._opened(part) as table:
            size = int(table.count_rows())
        return size if limit is None else min(size, limit)

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`; vectors come as lists of numbers."""
        with self._opened(part) as table:
            for batch in table.search().to_batches(_ROWS_AT_ONCE):
                yield from batch.to_pylist()

    @contextmanager
    def _opened(self, version: str) -> Iterator[Any]:
        import lancedb  # takes a second, and starts threads

        try:
            table = lancedb.connect(self.path).open_table(self.table)
            if version:
                table.checkout(int(version))
            yield table
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(
                f"cannot read LanceDB table '{self.title}': {reason_of(error).rstrip('.')}. Check "
                "the path and the table; a version that was removed while it was read is gone."
            ) from None
