"""Rows to encoded shards: one lazy Ray Data pipeline, written once.

    slices -> read (a generator per file) -> encode, with copies -> shards

Where there are as many slices as tasks, each is read, encoded and written by one task, and no row
travels; otherwise the rows of few large files are handed to all tasks.

Tasks rather than actors encode: Ray keeps their processes for the next ones, so that what takes
long for few rows, loading the processor and the libraries for it, happens once a process and not
once a split.

The shards mean the same rows in the same order whatever the number of blocks and workers: each
sample has the ``position`` of its row and, where an augmentation made it, the number of its
``copy``. Rejected rows are in the shards too, with a reason and no arrays.
"""

import json
import logging
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data
import xxhash

from ray_sft.data.augment import AnyAugmentation, Gate, copies_of
from ray_sft.data.quality import Quality, RowCheck
from ray_sft.data.quality.duplicates import signature
from ray_sft.data.quality.row_check import language_of
from ray_sft.data.rows import (
    as_list,
    numbered,
    read_rows,
    readable_errors,
    row_blocks,
    small_blocks,
    split_position,
    used_rows,
)
from ray_sft.data.shards import LEFT_OUT, ShardSink
from ray_sft.data.sources import Slice, Source
from ray_sft.data.texts import texts_of
from ray_sft.models import load_processor
from ray_sft.tasks import AnyTask, Array, Encoded, Example, Rejected, Row, Task

__all__ = ["EncodeRows", "encode"]

logger = logging.getLogger(__name__)

_FIRST_TOLD = 200
_TOLD_OF_THE_REST = 32
"""Rows of a part whose language is told: the first so many, and of the others one of so many."""
_TOLD_BY = 400
"""Characters by which it is told."""
_BATCH_ROWS = 256
_NO_QUALITY = Quality(repair=False)
_OPEN = Gate()


@dataclass(slots=True)
class _Sample:
    """A line of a shard: a row of the source, or a changed copy of one."""

    position: int
    copy: int
    lineage: str
    row_id: str
    result: Encoded
    weight: float = 1.0
    left_out: int = 0
    """How many rows of a part the recipe does not want; of a line that tells nothing else."""
    labels: tuple[str, ...] = ()
    """What the row says of each of its labels or tags."""
    language: str = ""
    signature: Array | None = None
    content: int = field(init=False)
    unchanged: int = 0
    """How many copies of this row were left out for saying nothing new."""

    def __post_init__(self) -> None:
        self.content = _content_hash(self.result)


class EncodeRows:
    """Turns JSON rows into arrays; the processor is loaded where that happens."""

    def __init__(
        self,
        task: Task,
        processor_dir: str,
        augment: Sequence[AnyAugmentation] = (),
        seed: int = 0,
        quality: Quality = _NO_QUALITY,
        gate: Gate = _OPEN,
    ) -> None:
        """See `encode`; nothing is loaded yet."""
        self.task = task
        self.gate = gate
        self.check = RowCheck(quality)
        self.signs = quality.duplicates == "near"
        self.processor_dir = processor_dir
        self.augment = augment
        self.seed = seed

    @property
    def processor(self) -> Any:
        """Loaded once a process."""
        return _load_processor_once(self.processor_dir)

    def __call__(self, batch: dict[str, Array]) -> pa.Table:
        """The lines of a shard for some rows, as `RowBlock.columns` gives them."""
        given = [json.loads(text) for text in batch["row"]]
        rows = used_rows(given, batch["reason"], self.check)
        encoded = iter(self._encode([row for row in rows if not isinstance(row, Rejected)]))
        samples = []
        for line, row in enumerate(rows):
            left_out = int(batch["left_out"][line])
            samples.append(
                _Sample(
                    int(batch["position"][line]),
                    copy=LEFT_OUT if left_out else 0,
                    lineage="",
                    row_id=str((given[line] or {}).get("id", "")),
                    result=row if isinstance(row, Rejected) else next(encoded),
                    weight=float(batch["weight"][line]),
                    left_out=left_out,
                    labels=self._labels(row),
                    language=_language(int(batch["position"][line]), row),
                    signature=self._signature(row),
                )
            )
        return _shard_table(samples + self._copies(samples, rows))

    def _labels(self, row: Row | Rejected) -> tuple[str, ...]:
        if isinstance(row, Rejected):
            return ()
        values = (as_list(row.get(column)) for column in self.task.observed_columns())
        return tuple(str(item) for value in values for item in value if item not in (None, ""))

    def _signature(self, row: Row | Rejected) -> Array | None:
        if not self.signs or isinstance(row, Rejected):
            return None
        return signature(texts_of(row))

    def _encode(self, rows: list[Row]) -> list[Encoded]:
        return [self._with_target(result) for result in self.task.encode(rows, self.processor)]

    def _with_target(self, encoded: Encoded) -> Encoded:
        """Rejects an example that a model could answer but not learn from or be measured on."""
        if isinstance(encoded, Rejected):
            return encoded
        return encoded if self.task.has_target(encoded) else Rejected("the row has no label")

    def _copies(self, samples: list[_Sample], rows: Sequence[Row | Rejected]) -> list[_Sample]:
        """The copies of accepted rows that a model can tell from the row and from each other."""
        if not self.augment:
            return []
        parents = [
            (sample, row)
            for sample, row in zip(samples, rows, strict=True)
            if not isinstance(row, Rejected) and isinstance(sample.result, Example)
        ]
        positions = [sample.position for sample, _ in parents]
        usable = [row for _, row in parents]
        copies = copies_of(usable, positions, self.augment, seed=self.seed, gate=self.gate)
        made = [
            (sample, copy)
            for (sample, _), found in zip(parents, copies, strict=True)
            for copy in found
        ]
        encoded = iter(self._encode([copy.row for _, copy in made if not copy.dropped]))
        results = [Rejected(copy.dropped) if copy.dropped else next(encoded) for _, copy in made]
        said = {(sample.position, sample.content) for sample in samples}
        kept = []
        for (parent, copy), result in zip(made, results, strict=True):
            sample = _Sample(
                parent.position,
                copy.number,
                copy.lineage,
                parent.row_id,
                result,
                weight=parent.weight,
            )
            if isinstance(result, Example) and (sample.position, sample.content) in said:
                parent.unchanged += 1
            else:
                said.add((sample.position, sample.content))
                kept.append(sample)
        return kept


@dataclass(frozen=True, slots=True)
class _ReadAndEncode:
    """Reads whole parts and encodes them where they are read."""

    source: Source
    slices: list[Slice]
    encode: EncodeRows

    def __call__(self, batch: dict[str, Array]) -> Iterator[pa.Table]:
        for number in batch["slice"]:
            for block in row_blocks(self.source, self.slices[int(number)]):
                for start in range(0, len(block["row"]), _BATCH_ROWS):
                    span = slice(start, start + _BATCH_ROWS)
                    yield self.encode({name: column[span] for name, column in block.items()})


def _demands(parts: Sequence[AnyAugmentation | Gate], *, num_tasks: int) -> dict[str, Any]:
    """What a task needs beside its core: its share of the GPUs, where a model can use one."""
    num_gpus = ray.cluster_resources().get("GPU", 0.0)  # type: ignore[no-untyped-call]
    if not num_gpus or not any(part.uses_gpu for part in parts):
        return {}
    # whole GPUs, or as many tasks on each as share it evenly
    return {"num_gpus": 1.0 if num_gpus >= num_tasks else 1 / math.ceil(num_tasks / num_gpus)}


def _language(position: int, row: Row | Rejected) -> str:
    """The language of some rows: telling it takes as long as encoding them."""
    _, index = split_position(position)
    is_told = index < _FIRST_TOLD or index % _TOLD_OF_THE_REST == 0
    if not is_told or isinstance(row, Rejected):
        return ""
    return language_of(texts_of(row)[:_TOLD_BY])[0]


def _tell_spilling(stats: str) -> None:
    """Warns where Ray's object store was too small for the blocks on their way."""
    spilled = re.search(r"Spilled to disk: (\d+)MB", stats)
    if spilled and int(spilled[1]):
        logger.warning(
            "Ray's object store was too small and moved %s MB to disk on the way, which is slow. "
            "Give it more memory (ray start --object-store-memory), or run fewer tasks at once.",
            spilled[1],
        )


@lru_cache(maxsize=4)
def _load_processor_once(folder: str) -> Any:
    return load_processor(folder)


def _shard_table(samples: list[_Sample]) -> pa.Table:
    results = [sample.result for sample in samples]
    examples = [result if isinstance(result, Example) else None for result in results]
    names = sorted({name for example in examples if example for name in example.arrays})
    columns: dict[str, Any] = {
        "position": pa.array([sample.position for sample in samples], pa.int64()),
        "copy": pa.array([sample.copy for sample in samples], pa.int32()),
        "lineage": [sample.lineage for sample in samples],
        "row_id": [sample.row_id for sample in samples],
        "reason": [result.reason if isinstance(result, Rejected) else "" for result in results],
        "unchanged": pa.array([sample.unchanged for sample in samples], pa.int32()),
        "length": pa.array([e.length if e else 0 for e in examples], pa.int32()),
        "weight": pa.array([sample.weight for sample in samples], pa.float32()),
        "left_out": pa.array([sample.left_out for sample in samples], pa.int64()),
        "truncated": pa.array([e.truncated if e else 0 for e in examples], pa.int32()),
        "content": pa.array([sample.content for sample in samples], pa.uint64()),
        "labels": pa.array([sample.labels for sample in samples], pa.list_(pa.string())),
        "language": [sample.language for sample in samples],
        "signature": pa.array([sample.signature for sample in samples], pa.list_(pa.uint32())),
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


def _content_hash(encoded: Encoded) -> int:
    """A hash of what a row says, without its labels; 0 for a rejected row."""
    if isinstance(encoded, Rejected):
        return 0
    digest = xxhash.xxh3_64()
    for name in sorted(encoded.arrays):
        if name != "labels":
            digest.update(encoded.arrays[name].tobytes())
    return digest.intdigest()


def encode(
    source: Source,
    task: AnyTask,
    *,
    processor_dir: Path,
    out_dir: Path,
    num_tasks: int,
    augment: Sequence[AnyAugmentation] = (),
    seed: int = 0,
    quality: Quality = _NO_QUALITY,
    gate: Gate = _OPEN,
) -> None:
    """Writes the encoded rows of ``source`` as shards into ``out_dir``.

    Rows are repaired and checked as ``quality`` says. Every accepted one is followed by the
    changed copies that ``augment`` makes of it, drawn from ``seed`` and the row's position; those
    that ``gate`` drops are rejected.

    Raises:
        DataError: a file cannot be read, or a shard not be written.
    """
    slices = source.slices()
    rows = EncodeRows(task, str(processor_dir), tuple(augment), seed, quality, gate)
    strategy = ray.data.TaskPoolStrategy(size=num_tasks)
    demands = _demands([*augment, gate], num_tasks=num_tasks)
    travel = len(slices) < num_tasks
    with readable_errors(), small_blocks(travel=travel), warnings.catch_warnings():
        # few rows are fewer blocks than tasks, which Ray finds worth a warning
        warnings.filterwarnings("ignore", "The maximum number of concurrent tasks")
        if travel:
            pipeline = read_rows(source, slices).map_batches(
                cast(Any, rows), batch_size=_BATCH_ROWS, compute=strategy, **demands
            )
        else:
            pipeline = numbered(slices).map_batches(
                cast(Any, _ReadAndEncode(source, slices, rows)),
                batch_size=1,
                compute=strategy,
                **demands,
            )
        # as many at once as encode, so that Ray lets a task write what it has encoded
        pipeline.write_datasink(ShardSink(out_dir), concurrency=num_tasks, ray_remote_args=demands)
    _tell_spilling(pipeline.stats())
