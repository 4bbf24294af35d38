"""The data stage: check, encode, count, and leave shards that training reads."""

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from ray_sft.core import Config, DataError
from ray_sft.core.whole_files import whole_file, writing_to
from ray_sft.data.augment import AnyAugmentation, Gate
from ray_sft.data.changes import Change, find_changes
from ray_sft.data.encode import encode
from ray_sft.data.index import is_among, write_index
from ray_sft.data.quality import Duplicates, Quality, unwanted_rows
from ray_sft.data.rows import column_values, split_position
from ray_sft.data.schema import Splits, check_columns
from ray_sft.data.sources import Source
from ray_sft.data.store import SampleStore
from ray_sft.data.summary import SplitSummary
from ray_sft.data.windows import Stream, rejected_rows, write_first_window
from ray_sft.tasks import AnyTask

__all__ = ["DataSummary", "prepare", "resolve_task", "write_rejected"]

logger = logging.getLogger(__name__)


class DataSummary(Config):
    """What the data stage found."""

    splits: dict[str, SplitSummary]
    """By ``train`` and ``eval``."""
    window: int = 0
    """How many training rows the figures are of, where training streams them; 0 for all."""
    num_shared: int
    """Evaluation rows whose content training has too, be it in a changed copy; such rows flatter
    the figures."""
    augmentations: dict[str, list[Change]] = Field(default_factory=dict)
    """By kind, some of what augmentation made of the training rows."""


def resolve_task(
    task: AnyTask, splits: Splits, *, name: str, former: AnyTask | None = None
) -> AnyTask:
    """``task`` with what it reads from the training data, checked against the evaluation data.

    ``former``, of the same kind, is the task of a model that is trained further.

    Raises:
        DataError: a missing file or column, or values that only evaluation has.
    """
    for split, source in splits.items().items():
        check_columns(f"{name}.{split}", source, task)
    columns = task.observed_columns()
    if not columns:
        return task
    resolved: AnyTask = task.resolve(column_values(splits.train, columns), former)  # type: ignore[arg-type] # same kind
    resolved.check_values(column_values(splits.eval, columns), split="eval")
    return resolved


def prepare(
    task: AnyTask,
    splits: Splits,
    *,
    processor_dir: Path,
    out_dir: Path,
    num_tasks: int,
    augment: Sequence[AnyAugmentation] = (),
    quality: Quality | None = None,
    seed: int = 0,
    gate: Gate | None = None,
    stream: Stream | None = None,
) -> DataSummary:
    """Encodes both splits into ``out_dir/train`` and ``out_dir/eval``; returns what it found.

    ``augment`` makes changed copies of training rows, drawn from ``seed``, and ``gate`` says which
    of them are kept; evaluation has none.
    ``quality`` says which rows are used, and what is done to their texts first.
    Where training rows are streamed, those of ``stream``'s first window are encoded.
    """
    quality, gate = quality or Quality(), gate or Gate()
    train_dir, eval_dir = out_dir / "train", out_dir / "eval"
    for split, source in splits.items().items():
        shutil.rmtree(out_dir / split, ignore_errors=True)
        if split == "train" and stream:
            continue
        encode(
            source,
            task,
            processor_dir=processor_dir,
            out_dir=out_dir / split,
            num_tasks=num_tasks,
            augment=augment if split == "train" else (),
            quality=quality,
            seed=seed,
            gate=gate,
        )
    measured_on = _index(splits.eval, eval_dir)
    if stream:
        trained_on = write_first_window(stream)
        _report(splits.train, trained_on)
    else:
        removed = unwanted_rows(train_dir, eval_dir, quality)
        trained_on = _index(splits.train, train_dir, removed=removed)
    _report_copies(splits.train, trained_on, augment)
    store = SampleStore(train_dir)
    said, trained = np.unique(SampleStore(eval_dir).contents), store.contents
    shared = len(np.unique(trained[is_among(trained, said)]))
    if shared:
        logger.warning("%d evaluation rows stand in the training data too", shared)
    return DataSummary(
        splits={"train": trained_on, "eval": measured_on},
        window=stream.rows if stream else 0,
        num_shared=shared,
        augmentations=find_changes(splits.train, store, augment, quality=quality, seed=seed),
    )


def _index(source: Source, folder: Path, *, removed: Duplicates | None = None) -> SplitSummary:
    try:
        summary = write_index(folder, removed=removed)
    except DataError as error:
        raise DataError(f"data '{source.title}': {error}") from None
    _report(source, summary)
    return summary


def _report(source: Source, summary: SplitSummary) -> None:
    if summary.num_rejected:
        logger.warning(
            "%s: %d of %d rows rejected", source.title, summary.num_rejected, summary.num_rows
        )
    if summary.num_truncated:
        logger.warning(
            "%s: %d rows cut at the task's max_length", source.title, summary.num_truncated
        )


def _report_copies(
    source: Source, summary: SplitSummary, augment: Sequence[AnyAugmentation]
) -> None:
    if augment:
        logger.info(
            "%s: %d changed copies of %d rows; %d left out for saying nothing new",
            source.title,
            summary.num_augmented,
            summary.num_accepted,
            summary.num_unchanged,
        )
    if summary.num_rejected_copies:
        logger.warning("%s: %d changed copies rejected", source.title, summary.num_rejected_copies)


def write_rejected(folders: Sequence[tuple[str, Path]], path: Path) -> int:
    """Writes every rejected row of the named shard folders as JSON lines; returns their number.

    A rejected copy has the ``lineage`` of the augmentation that made it; rows have an empty one.
    The file is there when it is whole.

    Raises:
        DataError: the disk is full, or the file cannot be written.
    """
    tables = [(name, rejected_rows(folder)) for name, folder in folders]
    with (
        writing_to(path.parent),
        whole_file(path) as draft,
        draft.open("w", encoding="utf-8") as file,
    ):
        for name, table in tables:
            for line in _rejected_lines(name, table):
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return sum(table.num_rows for _, table in tables)


def _rejected_lines(name: str, table: pa.Table) -> Iterator[dict[str, Any]]:
    columns = ["position", "lineage", "row_id", "reason", "original"]
    for row in table.select(columns).to_pylist():
        part, index = split_position(row["position"])
        line = {
            "data": name,
            "file": part,
            "row": index,
            "id": row["row_id"],
            "lineage": row["lineage"],
            "reason": row["reason"],
        }
        if row["original"] is not None:
            part, index = split_position(row["original"])
            line["same_as"] = {"file": part, "row": index}
        yield line
