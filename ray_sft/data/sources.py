"""Sources: where rows come from and how a file becomes rows, one line of defence each.

A reader yields rows one by one, so a file of any size passes in constant memory. What makes a
single row unusable is a `BadRow` with a reason; what makes the file unusable is a `DataError`.
"""

import csv
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from ray_sft.bundle.manifest import hash_file
from ray_sft.core import Config, DataError

__all__ = ["AnySource", "BadRow", "Csv", "Hub", "Jsonl", "Parquet", "RawRow", "Source", "Text"]

RawRow: TypeAlias = "dict[str, Any] | BadRow"


_EMBEDDED = "embedded/samples"


class BadRow(str):
    """Why a row of a file cannot be used."""

    __slots__ = ()


class Source(Config, ABC):
    """Rows from somewhere; ``columns`` maps the task's columns to those of the file."""

    path: str = Field(min_length=1)
    """A file, a glob, or a folder (every file below it with a fitting suffix)."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Column that the task reads -> column of the file, where the names differ."""

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
        """The rows of one part, in order, under the file's own column names."""

    def rename(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """``row`` under the names that the task reads."""
        return dict(row) | {name: row.get(column) for name, column in self.columns.items()}


def _resolve(path: str) -> Path:
    """A path as the user means it; ``embedded/samples/...`` are rows of this package."""
    if path.startswith(_EMBEDDED):
        return Path(str(resources.files("ray_sft"))) / path.removeprefix("embedded/")
    return Path(path).expanduser()


class _Encoded(Source, ABC):
    """A source of text files."""

    encoding: str = "utf-8-sig"
    """How the bytes spell characters; the default is UTF-8 with or without a byte-order mark."""

    def _open(self, part: str) -> Any:
        try:
            return Path(part).open(encoding=self.encoding, newline="")
        except LookupError:
            raise DataError(f"encoding '{self.encoding}' is not known.") from None

    def _wrong_encoding(self, part: str, error: UnicodeDecodeError) -> DataError:
        byte = error.object[error.start]
        return DataError(
            f"data file '{part}' is not {self.encoding.removesuffix('-sig')}: byte 0x{byte:02x} "
            "cannot be read. Name the file's encoding (encoding: gb18030, latin-1, ...) or save "
            "it as UTF-8."
        )


class Csv(_Encoded):
    """Comma-separated values with a header line."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")

    source: Literal["csv"] = "csv"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    """What separates fields."""

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        with self._open(part) as file:
            try:
                header = next(csv.reader(file, delimiter=self.delimiter, strict=True), None)
            except UnicodeDecodeError as error:
                raise self._wrong_encoding(part, error) from None
            except csv.Error as error:
                raise DataError(f"data file '{part}', line 1: {error}.") from None
        if not header:
            raise DataError(f"data file '{part}' has no header line.")
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise DataError(f"data file '{part}' names column '{twice[0]}' twice.")
        return header

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`; a row with another number of fields than the header is bad."""
        names = self.column_names(part) or []
        with self._open(part) as file:
            reader = csv.reader(file, delimiter=self.delimiter, strict=True)
            started = 1
            try:
                next(reader)
                while True:
                    started = reader.line_num + 1
                    fields = next(reader, None)
                    if fields is None:
                        return
                    if not fields:
                        continue
                    if len(fields) != len(names):
                        yield BadRow(f"{len(fields)} fields where the header has {len(names)}")
                    else:
                        yield dict(zip(names, fields, strict=True))
            except csv.Error as error:
                raise DataError(
                    f"data file '{part}': the quoting is broken in the row that begins in line "
                    f"{started}: {error}. Close the quotation mark, or double it inside a field."
                ) from None
            except UnicodeDecodeError as error:
                raise self._wrong_encoding(part, error) from None


class Jsonl(_Encoded):
    """One JSON object a line."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    source: Literal["jsonl"] = "jsonl"

    def column_names(self, part: str) -> list[str] | None:
        """The keys of the first object; other lines may hold others."""
        for row in self.read(part):
            if isinstance(row, dict):
                return list(row)
        return None

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`; a line that is no JSON object is bad."""
        with self._open(part) as file:
            try:
                for line in file:
                    if line.strip():
                        yield _json_object(line)
            except UnicodeDecodeError as error:
                raise self._wrong_encoding(part, error) from None


def _json_object(line: str) -> RawRow:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        return BadRow(f"not JSON: {error}")
    return row if isinstance(row, dict) else BadRow(f"a JSON {type(row).__name__}, not an object")


class Parquet(Source):
    """Apache Parquet files."""

    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)

    source: Literal["parquet"] = "parquet"

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        names: list[str] = self._file(part).schema_arrow.names
        return names

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`."""
        for batch in self._file(part).iter_batches(batch_size=1024):
            yield from batch.to_pylist()

    def _file(self, part: str) -> Any:
        import pyarrow
        import pyarrow.parquet

        try:
            return pyarrow.parquet.ParquetFile(part)
        except pyarrow.ArrowInvalid as error:
            raise DataError(f"data file '{part}' is no Parquet file: {error}") from None


class Text(_Encoded):
    """Plain text or markdown; every row has one column, ``text``."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".md")

    source: Literal["text"] = "text"
    unit: Literal["line", "paragraph", "file"] = "paragraph"
    """What one row is; paragraphs end at an empty line."""

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        del part
        return ["text"]

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`."""
        with self._open(part) as file:
            try:
                yield from ({"text": text} for text in _units(file, self.unit))
            except UnicodeDecodeError as error:
                raise self._wrong_encoding(part, error) from None


def _units(lines: Iterator[str], unit: str) -> Iterator[str]:
    kept: list[str] = []
    for line in lines:
        ends_unit = unit == "line" or (unit == "paragraph" and not line.strip())
        kept.append(line)
        if ends_unit:
            text = "".join(kept).strip()
            kept.clear()
            if text:
                yield text
    if text := "".join(kept).strip():
        yield text


class Hub(Source):
    """A data set of the Hugging Face hub, streamed; ``path`` is its id."""

    source: Literal["hub"] = "hub"
    split: str = "train"
    """Which split to read."""
    subset: str = ""
    """The data set's configuration, where it has several."""

    def parts(self) -> list[str]:
        """The id itself: one reader."""
        return [self.path]

    def fingerprint(self) -> str:
        """SHA-256 over the settings; the hub's content is not hashed."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        names = self._stream(part).column_names
        return list(names) if names else None

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`."""
        yield from self._stream(part)

    def _stream(self, part: str) -> Any:
        import datasets

        try:
            return datasets.load_dataset(
                part, self.subset or None, split=self.split, streaming=True
            )
        except (OSError, ValueError, datasets.exceptions.DatasetNotFoundError) as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(f"cannot read hub data set '{part}': {reason}") from None


AnySource: TypeAlias = Annotated[Csv | Jsonl | Parquet | Text | Hub, Field(discriminator="source")]
"""Every source that a recipe may name."""
