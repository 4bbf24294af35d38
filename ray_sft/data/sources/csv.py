"""Comma-separated values, and other single characters between fields."""

import csv
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, TextIO

from pydantic import Field, field_validator

from ray_sft.core import DataError
from ray_sft.data.sources.base import BadRow, RawRow
from ray_sft.data.sources.files import TextFile, Undecoded

__all__ = ["Csv"]

_TOO_LONG = "\x00too long:"
"""Begins what stands for a line that was not read."""


class Csv(TextFile):
    """Comma-separated values; the first line names the columns, unless the recipe does."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")

    source: Literal["csv"] = "csv"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """What separates fields."""
    header: tuple[str, ...] = ()
    """Names of the columns of files without a header line; empty: the first line has them."""

    @field_validator("header")
    @classmethod
    def _names_differ(cls, header: tuple[str, ...]) -> tuple[str, ...]:
        if twice := _repeated(header):
            raise ValueError(f"header names column '{twice}' twice")
        return header

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        if self.header:
            return list(self.header)
        with self.open(part) as file:
            try:
                header: list[str] | None = next(self._reader(file), None)
            except csv.Error as error:
                raise DataError(f"data file '{part}', line 1: {error}.") from None
        if not header:
            raise DataError(f"data file '{part}' has no header line.")
        if reason := _why_unusable(header):
            raise DataError(f"the header line of data file '{part}' cannot be read: {reason}.")
        if twice := _repeated(header):
            raise DataError(
                f"data file '{part}' names column '{twice}' twice. If its first line is a row, "
                "name the columns in the recipe: header: [...]."
            )
        return header

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`; a row with another number of fields than the header is bad."""
        names = self.column_names(part) or []
        with self.open(part) as file:
            reader = self._reader(file)
            started = 1
            try:
                if not self.header:
                    next(reader)
                while True:
                    started = reader.line_num + 1
                    fields = next(reader, None)
                    if fields is None:
                        return
                    if fields:
                        yield _row(names, fields)
            except csv.Error as error:
                raise DataError(
                    f"data file '{part}': the quoting is broken in the row that begins in line "
                    f"{started}: {error}. Close the quotation mark, or double it inside a field."
                ) from None

    def _reader(self, file: TextIO) -> Any:
        csv.field_size_limit(self.max_line)  # a quotation mark that is never closed ends here
        lines = (_as_text(line) for line in self.lines(file))
        return csv.reader(lines, delimiter=self.delimiter, strict=True)


def _as_text(line: str | BadRow) -> str:
    """A line, or what stands for it until its row is told from the others."""
    if isinstance(line, Undecoded):
        return line.line  # its quotation marks count
    return f'"{_TOO_LONG}{line}"\n' if isinstance(line, BadRow) else line


def _why_unusable(fields: list[str]) -> str | None:
    for field in fields:
        if field.startswith(_TOO_LONG):
            return field.removeprefix(_TOO_LONG).strip()
        if bad := Undecoded.in_text(field):
            return bad
    return None


def _row(names: list[str], fields: list[str]) -> RawRow:
    if reason := _why_unusable(fields):
        return BadRow(reason)
    if len(fields) != len(names):
        return BadRow(f"{len(fields)} fields where the header has {len(names)}")
    return dict(zip(names, fields, strict=True))


def _repeated(names: list[str] | tuple[str, ...]) -> str | None:
    return next((name for name in sorted(names) if names.count(name) > 1), None)
