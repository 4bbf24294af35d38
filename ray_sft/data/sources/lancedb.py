"""Tables of LanceDB, in a folder or in object storage."""

import hashlib
from collections.abc import Iterator
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
        table = self._open("")
        if not table.count_rows():
            raise DataError(f"'{self.title}' has no rows.")
        return [str(table.version)]

    def fingerprint(self) -> str:
        """SHA-256 over the settings and the table's version."""
        text = f"{self.model_dump_json()}|{self._open('').version}"
        return hashlib.sha256(text.encode()).hexdigest()

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        names: list[str] = self._open(part).schema.names
        return names

    def count_rows(self, part: str, *, limit: int | None) -> int:
        """See `Source.count_rows`; the table says it."""
        size = int(self._open(part).count_rows())
        return size if limit is None else min(size, limit)

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`; vectors come as lists of numbers."""
        batches = self._open(part).search().to_batches(_ROWS_AT_ONCE)
        for batch in batches:
            yield from batch.to_pylist()

    def _open(self, version: str) -> Any:
        import lancedb  # takes a second, and starts threads

        try:
            table = lancedb.connect(self.path).open_table(self.table)
            if version:
                table.checkout(int(version))
        except (OSError, RuntimeError, ValueError) as error:
            reason = reason_of(error)
            raise DataError(f"cannot read LanceDB table '{self.title}': {reason}") from None
        return table
