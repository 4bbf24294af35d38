"""Rows to encoded shards: one lazy Ray Data pipeline, written once as Parquet.

    parts -> read (a generator per file) -> encode (actors, processor loaded once) -> shards

Every row keeps its ``position`` (file number and row number), so the shards mean the same rows in
the same order whatever the number of blocks and workers. Rejected rows are in the shards too,
with a reason and no arrays.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray.data
import ray.exceptions

from ray_sft.core import DataError
from ray_sft.data.sources import BadRow, Source
from ray_sft.models import load_processor
from ray_sft.tasks import AnyTask, Array, Encoded, Example, Rejected, Row, Task

__all__ = ["column_values", "encode", "iterate_rows"]

_ROWS_PER_BLOCK = 2048
_PART_BITS = 40


@dataclass(frozen=True, slots=True)
class _ReadRows:
    """Reads whole files into blocks of JSON rows; runs as a Ray task per file."""

    source: Source

    def __call__(self, batch: dict[str, Array]) -> Iterator[dict[str, Array]]:
        for number, part in zip(batch["number"], batch["part"], strict=True):
            yield from _blocks(self.source, int(number), str(part))


def _blocks(source: Source, number: int, part: str) -> Iterator[dict[str, Array]]:
    positions: list[int] = []
    rows: list[str] = []
    reasons: list[str] = []
    for index, row in enumerate(source.read(part)):
        positions.append((number << _PART_BITS) | index)
        bad = isinstance(row, BadRow)
        reasons.append(str(row) if bad else "")
        rows.append("null" if bad else json.dumps(source.rename(row), default=str))  # type: ignore[arg-type]
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


def _read(source: Source) -> ray.data.Dataset:
    parts = source.parts()
    items = [{"number": number, "part": part} for number, part in enumerate(parts)]
    files = ray.data.from_items(items, override_num_blocks=len(parts))
    return files.map_batches(cast(Any, _ReadRows(source)), batch_size=1)


@contextmanager
def _readable_errors() -> Iterator[None]:
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
    for part in source.parts():
        for row in source.read(part):
            if not isinstance(row, BadRow):
                yield source.rename(row)


def column_values(source: Source, columns: tuple[str, ...]) -> dict[str, list[str]]:
    """The distinct values of some columns, sorted, empty ones left out."""
    found: dict[str, set[str]] = {column: set() for column in columns}

    def distinct(batch: dict[str, Array]) -> dict[str, Array]:
        rows = [json.loads(text) for text in batch["row"]]
        pairs = {
            (column, str(row[column]))
            for row in rows
            if row is not None
            for column in columns
            if row.get(column) not in (None, "")
        }
        return {
            "column": np.asarray([column for column, _ in sorted(pairs)], dtype=object),
            "value": np.asarray([value for _, value in sorted(pairs)], dtype=object),
        }

    with _readable_errors():
        for pair in _read(source).map_batches(cast(Any, distinct)).iter_rows():
            found[pair["column"]].add(pair["value"])
    return {column: sorted(values) for column, values in found.items()}


class _EncodeRows:
    """An actor that holds the processor and turns JSON rows into arrays."""

    def __init__(self, task: Task, processor_dir: str) -> None:
        self.task = task
        self.processor = load_processor(processor_dir)

    def __call__(self, batch: dict[str, Array]) -> pa.Table:
        rows = [json.loads(text) for text in batch["row"]]
        usable = [row for row in rows if row is not None]
        encoded = iter(self.task.encode(usable, self.processor))
        results = [
            Rejected(str(reason)) if row is None else self._with_target(next(encoded))
            for row, reason in zip(rows, batch["reason"], strict=True)
        ]
        return _shard_table(batch["position"], rows, results)

    def _with_target(self, encoded: Encoded) -> Encoded:
        """Rejects an example that a model could answer but not learn from or be measured on."""
        if isinstance(encoded, Rejected):
            return encoded
        batch = self.task.collate([encoded], self.processor)
        return encoded if self.task.num_targets(batch) else Rejected("the row has no label")


def _shard_table(positions: Array, rows: list[Any], results: list[Encoded]) -> pa.Table:
    examples = [result if isinstance(result, Example) else None for result in results]
    names = sorted({name for example in examples if example for name in example.arrays})
    columns: dict[str, Any] = {
        "position": positions,
        "row_id": [str(row.get("id", "")) if row else "" for row in rows],
        "reason": [result.reason if isinstance(result, Rejected) else "" for result in results],
        "length": pa.array([e.length if e else 0 for e in examples], pa.int32()),
        "truncated": pa.array([e.truncated if e else 0 for e in examples], pa.int32()),
        "content": [_content_hash(e) if e else "" for e in examples],
    }
    for name in names:
        arrays = [example.arrays.get(name) if example else None for example in examples]
        present = next(array for array in arrays if array is not None)
        assert present.ndim <= 1, "shards hold vectors and scalars"
        item_type = pa.from_numpy_dtype(present.dtype)
        if present.ndim == 0:
            values = [None if array is None else array.item() for array in arrays]
            columns[f"scalar.{name}"] = pa.array(values, item_type)
        else:
            columns[f"array.{name}"] = pa.array(arrays, pa.list_(item_type))
    return pa.table(columns)


def _content_hash(example: Example) -> str:
    digest = hashlib.sha256()
    for name in sorted(set(example.arrays) - {"labels"}):
        digest.update(example.arrays[name].tobytes())
    return digest.hexdigest()[:16]


def encode(
    source: Source, task: AnyTask, *, processor_dir: Path, out_dir: Path, num_actors: int
) -> None:
    """Writes the encoded rows of ``source`` as Parquet files into ``out_dir``.

    Raises:
        DataError: a file cannot be read.
    """
    pipeline = _read(source).map_batches(
        _EncodeRows,
        fn_constructor_kwargs={"task": task, "processor_dir": str(processor_dir)},
        batch_size=256,
        compute=ray.data.ActorPoolStrategy(size=min(num_actors, len(source.parts()))),
    )
    with _readable_errors():
        pipeline.write_parquet(str(out_dir))
