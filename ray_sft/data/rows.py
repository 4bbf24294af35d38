"""The rows of a source: one by one in this process, or file by file on Ray Data.

Every row keeps its ``position`` (file number and row number), so that what is made of it means
the same whatever the number of blocks and workers.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, cast

import numpy as np
import ray.data
import ray.exceptions

from ray_sft.core import DataError
from ray_sft.data.quality import Quality, RowCheck
from ray_sft.data.sources import BadRow, LeftOut, Slice, Source
from ray_sft.tasks import Array, Rejected, Row, Task

__all__ = [
    "RowBlock",
    "UsableTexts",
    "as_json",
    "as_list",
    "column_values",
    "in_order",
    "iterate_positions",
    "iterate_rows",
    "numbered",
    "position_of",
    "read_rows",
    "readable_errors",
    "row_blocks",
    "small_blocks",
    "split_position",
    "used_rows",
]

CPUS_TO_READ = 0.9
"""Of a core, for a task that reads and hands on its rows."""
_ROWS_PER_BLOCK = 2048
_ROWS_AT_ONCE = 64
"""That a model of names sees together; without one, a row is handed on before the next is read."""
_BLOCK_BYTES = 4 * 1024 * 1024
_FILE_BITS = 40
_RAYS_ADVICE = "\nFailed to apply UDF"
"""Begins what Ray Data puts after the message of an error: how to have its tasks retried."""


def position_of(file: int, index: int) -> int:
    """The position of row ``index`` of the file of that number."""
    return (file << _FILE_BITS) | index


def split_position(position: int) -> tuple[int, int]:
    """The number of the file and that of the row in it."""
    return divmod(position, 1 << _FILE_BITS)


def as_json(row: Row) -> str:
    """A row as it travels to where it is encoded; what JSON does not know becomes text."""
    return json.dumps(row, default=str)


@dataclass(frozen=True, slots=True)
class _ReadRows:
    """Reads whole parts into blocks of JSON rows; runs as a Ray task per part."""

    source: Source
    slices: list[Slice]

    def __call__(self, batch: dict[str, Array]) -> Iterator[dict[str, Array]]:
        for item in batch["slice"]:
            yield from row_blocks(self.source, self.slices[int(item)])


def row_blocks(source: Source, chosen: Slice) -> Iterator[dict[str, Array]]:
    """The rows of a slice as `read_rows` gives them, some thousand at a time."""
    weight = source.weight_of(chosen.part)
    block = RowBlock()
    num_left_out = 0
    position = 0
    for index, row in source.rows(chosen):
        position = position_of(chosen.number, index)
        if isinstance(row, LeftOut):
            num_left_out += 1
        else:
            block.take(position, row, weight=weight)
        if block.is_full:
            yield block.columns()
            block = RowBlock()
    if num_left_out:
        block.add(position, "null", num_left_out=num_left_out)
    if block.rows:
        yield block.columns()


@dataclass(slots=True)
class RowBlock:
    """Rows on their way to where they are encoded."""

    positions: list[int] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    """How often an epoch has each."""

    def take(self, position: int, row: Row | BadRow, *, weight: float) -> None:
        """Takes a row as a source reads it."""
        if isinstance(row, BadRow):
            self.add(position, "null", reason=str(row), weight=weight)
        else:
            self.add(position, as_json(row), weight=weight)

    def add(
        self,
        position: int,
        row: str,
        *,
        reason: str = "",
        num_left_out: int = 0,
        weight: float = 1.0,
    ) -> None:
        """Takes a row as JSON, a bad one with its reason, or a count of unwanted ones."""
        self.positions.append(position)
        self.rows.append(row)
        self.reasons.append(reason)
        self.left_out.append(num_left_out)
        self.weights.append(weight)

    @property
    def is_full(self) -> bool:
        """Whether it should travel now."""
        return len(self.rows) >= _ROWS_PER_BLOCK

    def columns(self) -> dict[str, Array]:
        """The rows as Ray takes them."""
        return {
            "position": np.asarray(self.positions, dtype=np.int64),
            "row": np.asarray(self.rows, dtype=object),
            "reason": np.asarray(self.reasons, dtype=object),
            "left_out": np.asarray(self.left_out, dtype=np.int64),
            "weight": np.asarray(self.weights, dtype=np.float32),
        }


def numbered(slices: list[Slice]) -> ray.data.Dataset:
    """A row for each slice, in a block of its own: ``slice``, its index."""
    items = [{"slice": number} for number in range(len(slices))]
    return ray.data.from_items(items, override_num_blocks=len(slices))


def read_rows(source: Source, slices: list[Slice]) -> ray.data.Dataset:
    """Every row, lazily: ``position``, ``row`` (JSON, or null), ``reason`` (why null), ``weight``.

    After the rows of a part comes a line without row and reason where the recipe left rows out;
    ``left_out`` is how many.
    """
    # Ray joins steps of equal demands into one task, and then a file would be encoded in one place
    return numbered(slices).map_batches(
        cast(Any, _ReadRows(source, slices)), batch_size=1, num_cpus=CPUS_TO_READ
    )


def used_rows(
    given: Sequence[Row | None], reasons: Iterable[str], check: RowCheck
) -> list[dict[str, Any] | Rejected]:
    """The rows of a block as they are trained on, or why they are not.

    A line that only counts rows that were left out is rejected without a reason.
    """
    checked = iter(check.check_rows([row for row in given if row is not None]))
    return [
        Rejected(str(reason)) if row is None else next(checked)
        for row, reason in zip(given, reasons, strict=True)
    ]


@contextmanager
def small_blocks(*, travel: bool) -> Iterator[None]:
    """Ray Data works on blocks of a few megabytes here.

    With its own 128 MB, a file of 200 MB is two pieces of work, and a worker holds one of them in
    each of the forms that it passes through. Where rows ``travel`` from task to task, Ray gives
    each step its share of cores and memory, so that none runs ahead; where they do not there is
    nothing to share, and asking for it would let one task alone run for the first second.
    """
    context = ray.data.DataContext.get_current()
    former = context.target_max_block_size, context.op_resource_reservation_enabled
    context.target_max_block_size, context.op_resource_reservation_enabled = _BLOCK_BYTES, travel
    try:
        yield
    finally:
        context.target_max_block_size, context.op_resource_reservation_enabled = former


@contextmanager
def in_order() -> Iterator[None]:
    """Ray Data keeps the order of rows here, whichever task ends first."""
    options = ray.data.DataContext.get_current().execution_options
    former, options.preserve_order = options.preserve_order, True
    try:
        yield
    finally:
        options.preserve_order = former


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
            raise DataError(str(cause).partition(_RAYS_ADVICE)[0]) from None
        raise


def iterate_rows(source: Source, quality: Quality | None = None) -> Iterator[Row]:
    """Usable rows in order, read in this process; for tokenizer training and previews.

    With ``quality`` as they are trained on: repaired, masked, and only those that it wants.
    """
    for _, row in iterate_positions(source, quality):
        yield row


def iterate_positions(source: Source, quality: Quality | None = None) -> Iterator[tuple[int, Row]]:
    """Usable rows in order with their positions, see `iterate_rows`."""
    check = RowCheck(quality) if quality else None
    at_once = _ROWS_AT_ONCE if quality and quality.names else 1
    for chosen in source.slices():
        good = ((index, row) for index, row in source.rows(chosen) if isinstance(row, dict))
        while some := list(islice(good, at_once)):
            rows = [row for _, row in some]
            used = check.check_rows(rows) if check else rows
            for (index, _), row in zip(some, used, strict=True):
                if not isinstance(row, Rejected):
                    yield position_of(chosen.number, index), row


@dataclass(frozen=True, slots=True)
class UsableTexts:
    """The texts of all usable rows, as a tokenizer learns from them; read anew each time."""

    tasks: Mapping[str, Task]
    sources: Mapping[str, Source]
    quality: Quality

    def __iter__(self) -> Iterator[str]:
        """One text after the other."""
        for name, source in self.sources.items():
            for row in iterate_rows(source, self.quality):
                yield from self.tasks[name].texts(row)


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
            for value in as_list(row.get(column))
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


def as_list(value: object) -> list[object]:
    """What a column holds, as the items of a list."""
    return value if isinstance(value, list) else [value]
