"""The contract of a source: files in, numbered rows out.

A reader yields rows one by one, so a file of any size passes in constant memory. What makes a
single row unusable is a `BadRow` with a reason; what makes the file unusable is a `DataError`.
"""

import codecs
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TextIO, TypeAlias

from pydantic import Field

from ray_sft.bundle.manifest import hash_file
from ray_sft.core import Config, DataError

__all__ = ["BadRow", "RawRow", "Slice", "Source", "TextFile"]

RawRow: TypeAlias = "dict[str, Any] | BadRow"

_EMBEDDED = "embedded/samples"


class BadRow(str):
    """Why a row of a file cannot be used."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows of one file that a source takes."""

    number: int
    """The file's place among the files of the source."""
    part: str
    """The file."""
    start: int
    stop: int | None
    """Where the rows end, counted from the beginning of the file; None for its end."""


class Source(Config, ABC):
    """Rows from somewhere; ``columns`` maps the task's columns to those of the file."""

    path: str = Field(min_length=1)
    """A file, a glob, or a folder (every file below it with a fitting suffix)."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Column that the task reads -> column of the file, where the names differ."""
    skip: int = Field(default=0, ge=0)
    """How many rows to leave out at the beginning, good and bad ones, over all files together."""
    take: int = Field(default=0, ge=0)
    """How many rows to read after those, good and bad ones; 0 for all."""

    suffixes: ClassVar[tuple[str, ...]] = ()

    def parts(self) -> list[str]:
        """The files, sorted by name; one reader each.

        Raises:
            DataError: the path matches nothing, or only empty files.
        """
        path = _resolve(self.path)
        if path.is_dir():
            found = sorted(
                file
                for file in path.rglob("*")
                if file.is_file() and file.name.lower().endswith(self.suffixes)
            )
            missing = f"folder '{path}' holds no file that ends in {' or '.join(self.suffixes)}."
        elif path.is_file():
            found, missing = [path], ""
        else:
            anchor = Path(path.anchor) if path.is_absolute() else Path()
            pattern = str(path.relative_to(anchor)) if path.is_absolute() else str(path)
            found = sorted(file for file in anchor.glob(pattern) if file.is_file())
            missing = f"data path '{self.path}' does not exist (looked from '{Path.cwd()}')."
        if not found:
            raise DataError(missing)
        if all(file.stat().st_size == 0 for file in found):
            raise DataError(f"data file '{found[0]}' is empty.")
        return [str(file.resolve()) for file in found]

    def slices(self) -> list[Slice]:
        """What to read of each file; every reader begins here, so all honour `skip` and `take`.

        Where a file's share depends on how many rows stand in the files before it, those are
        counted first.

        Raises:
            DataError: the path matches nothing.
        """
        parts = self.parts()
        slices: list[Slice] = []
        skip, take = self.skip, self.take or None
        for number, part in enumerate(parts):
            if take == 0:
                break
            stop = None if take is None else skip + take
            is_last = number + 1 == len(parts)
            if is_last or (not skip and take is None):
                slices.append(Slice(number, part, skip, stop))
                continue
            size = self.count_rows(part, limit=stop)
            if size > skip:
                slices.append(Slice(number, part, skip, stop))
                take = None if take is None else take - (size - skip)
            skip = max(0, skip - size)
        return slices

    def count_rows(self, part: str, *, limit: int | None) -> int:
        """The number of rows of a part, good and bad; counting ends at ``limit``."""
        return sum(1 for _ in islice(self.read(part), limit))

    def rows(self, chosen: Slice) -> Iterator[tuple[int, RawRow]]:
        """The rows of a slice with their numbers in the file, under the names the task reads."""
        for index, row in islice(enumerate(self.read(chosen.part)), chosen.start, chosen.stop):
            yield index, row if isinstance(row, BadRow) else self.rename(row)

    def fingerprint(self) -> str:
        """SHA-256 over this source's settings and the content of its files."""
        digest = hashlib.sha256(self.model_dump_json(exclude={"path"}).encode())
        for part in self.parts():
            digest.update(hash_file(Path(part)).encode())
        return digest.hexdigest()

    @abstractmethod
    def column_names(self, part: str) -> list[str] | None:
        """The columns of a file, or None where rows may differ."""

    @abstractmethod
    def read(self, part: str) -> Iterator[RawRow]:
        """All rows of one part, in order, under the file's own column names."""

    def rename(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """``row`` under the names that the task reads."""
        return dict(row) | {name: row.get(column) for name, column in self.columns.items()}


def _resolve(path: str) -> Path:
    """A path as the user means it; ``embedded/samples/...`` are rows of this package."""
    if path.startswith(_EMBEDDED):
        return Path(str(resources.files("ray_sft"))) / path.removeprefix("embedded/")
    return Path(path).expanduser()


class TextFile(Source, ABC):
    """A source of text files."""

    encoding: str = "utf-8-sig"
    """How the bytes spell characters; the default is UTF-8 with or without a byte-order mark."""

    @contextmanager
    def open(self, part: str) -> Iterator[TextIO]:
        """The opened file, line ends untouched.

        Raises:
            DataError: the encoding is unknown, or what is read in the block is not in it.
        """
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise DataError(f"encoding '{self.encoding}' is not known.") from None
        with Path(part).open(encoding=self.encoding, newline="") as file:
            try:
                yield file
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                raise DataError(
                    f"data file '{part}' is not {self.encoding.removesuffix('-sig')}: byte "
                    f"0x{byte:02x} cannot be read. Name the file's encoding (encoding: gb18030, "
                    "latin-1, ...) or save it as UTF-8."
                ) from None
