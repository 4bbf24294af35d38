"""The rows of a source: one by one in this process, or file by file on Ray Data.

Every row keeps its ``position`` (file number and row number), so that what is made of it means
the same whatever the number of blocks and workers.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import ray.data
import ray.exceptions

from ray_sft.core import DataError
from ray_sft.data.sources import BadRow, Slice, Source
from ray_sft.tasks import Array, Row

__all__ = [
    "as_json",
    "column_values",
    "iterate_positions",
    "iterate_rows",
    "position_of",
    "read_rows",
    "readable_errors",
    "split_position",
]

_ROWS_PER_BLOCK = 2048
_FILE_BITS = 40


def position_of(file: int, index: int) -> int:
    """The position of row ``index`` of the file of that number."""
    return (file << _FILE_BITS) | index


def split_position(position: int) -> tuple[int, int]:
    """The number of the file and that of the row in it."""
    return divmod(position, 1 << _FILE_BITS)


def as_json(row: Row) -> str:
    """A row as it travels to the encoding actors; what JSON does not know becomes text."""
    return json.dumps(row, default=str)


@dataclass(frozen=True, slots=True)
class _ReadRows:
    """Reads whole files into blocks of JSON rows; runs as a Ray task per file."""

    source: Source
    slices: list[Slice]

    def __call__(self, batch: dict[str, Array]) -> Iterator[dict[str, Array]]:
        for item in batch["slice"]:
            yield from _blocks(self.source, self.slices[int(item)])


def _blocks(source: Source, chosen: Slice) -> Iterator[dict[str, Array]]:
    positions: list[int] = []
    rows: list[str] = []
    reasons: list[str] = []
    for index, row in source.rows(chosen):
        positions.append(position_of(chosen.number, index))
        reasons.append(str(row) if isinstance(row, BadRow) else "")
        rows.append("null" if isinstance(row, BadRow) else as_json(row))
        if len(rows) == _ROWS_PER_BLOCK:
            yield _columns(positions, rows, reasons)
            positions, rows, reasons = [], [], []
    if rows:
        yield _columns(positions, rows, reasons)


def _columns(positions: list[int], rows: list[str], reasons: list[str]) -> dict[str, Array]:
    return {
        "position": np.asarray(positions, dtype=np.int64),
        "row": np.asarray(rows, dtype=object),
        "reason": np.asarray(reasons, dtype=object),
    }


def read_rows(source: Source, slices: list[Slice]) -> ray.data.Dataset:
    """``position``, ``row`` (JSON, or null) and ``reason`` (why null) of every row, lazily."""
    items = [{"slice": number} for number in range(len(slices))]
    files = ray.data.from_items(items, override_num_blocks=len(slices))
    return files.map_batches(cast(Any, _ReadRows(source, slices)), batch_size=1)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Raises the `DataError` of a worker instead of Ray's report about it."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        # Ray's own error is an instance of the class of its cause, with the whole trace as text
        cause: BaseException = error
        while isinstance(cause, ray.exceptions.RayTaskError):
            cause = cause.cause
        while cause.__cause__ is not None and not isinstance(cause, DataError):
            cause = cause.__cause__
        if isinstance(cause, DataError):
            raise DataError(str(cause)) from None
        raise


def iterate_rows(source: Source) -> Iterator[Row]:
    """Usable rows in order, read in this process; for tokenizer training and previews."""
    for _, row in iterate_positions(source):
        yield row


def iterate_positions(source: Source) -> Iterator[tuple[int, Row]]:
    """Usable rows in order with their positions, read in this process."""
    for chosen in source.slices():
        for index, row in source.rows(chosen):
            if not isinstance(row, BadRow):
                yield position_of(chosen.number, index), row


def column_values(source: Source, columns: tuple[str, ...]) -> dict[str, list[str]]:
    """The distinct values of some columns, sorted, empty ones left out.

    A value that is a list (the tags of a sentence) counts as each of its items.
    """
    found: dict[str, set[str]] = {column: set() for column in columns}

    def distinct(batch: dict[str, Array]) -> dict[str, Array]:
        rows = [json.loads(text) for text in batch["row"]]
        pairs = {
            (column, str(value))
            for row in rows
            if row is not None
            for column in columns
            for value in _as_list(row.get(column))
            if value not in (None, "")
        }
        return {
            "column": np.asarray([column for column, _ in sorted(pairs)], dtype=object),
            "value": np.asarray([value for _, value in sorted(pairs)], dtype=object),
        }

    with readable_errors():
        rows = read_rows(source, source.slices())
        for pair in rows.map_batches(cast(Any, distinct)).iter_rows():
            found[pair["column"]].add(pair["value"])
    return {column: sorted(values) for column, values in found.items()}


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
