"""What a recipe says about data, and the checks made before any worker starts."""

from collections.abc import Mapping, Sequence
from typing import Self

from ray_sft.core import Config, DataError
from ray_sft.data.sources import AnySource, Source
from ray_sft.tasks import Task

__all__ = ["Splits", "check_columns"]


class Splits(Config):
    """The rows of one task."""

    train: AnySource
    """Rows to learn from."""
    eval: AnySource
    """Rows to measure on; never trained or augmented."""

    def items(self) -> Mapping[str, Source]:
        """The splits by name."""
        return {"train": self.train, "eval": self.eval}

    def mapping(self, columns: Sequence[str]) -> Self:
        """The same rows for a task that reads ``columns``; other mappings are left out."""
        kept = {
            split: source.model_copy(
                update={"columns": {k: v for k, v in source.columns.items() if k in columns}}
            )
            for split, source in self.items().items()
        }
        return self.model_copy(update=kept)


def check_columns(name: str, source: Source, task: Task) -> None:
    """Checks that the files have the columns that the recipe and the task name.

    Raises:
        DataError: a mapped column is missing, or none of the task's columns is there.
    """
    part = source.parts()[0]
    columns = source.column_names(part)
    if columns is None:
        raise DataError(f"dataset '{name}' ('{part}') holds no usable row.")
    has = ", ".join(columns)
    for target, column in source.columns.items():
        if target not in task.columns:
            raise DataError(
                f"dataset '{name}' maps column '{target}', which {type(task).__name__} does not "
                f"read (it reads: {', '.join(task.columns)})."
            )
        if column not in columns:
            raise DataError(
                f"dataset '{name}' has no column '{column}' (it has: {has}). "
                f"Correct columns: {{{target}: {column}}}."
            )
    available = set(columns) | set(source.columns)
    needed = task.observed_columns() or ()
    for target in needed:
        if target not in available:
            raise DataError(_missing(name, target, has, task))
    if not available & set(task.columns):
        raise DataError(_missing(name, next(iter(task.columns)), has, task))
    inputs = [column for column in task.columns if column not in needed]
    if needed and not available & set(inputs):
        raise DataError(_missing(name, inputs[0], has, task))


def _missing(name: str, target: str, has: str, task: Task) -> str:
    return (
        f"dataset '{name}' has no column '{target}' (it has: {has}). {type(task).__name__} reads "
        f"{', '.join(task.columns)}. Map it: columns: {{{target}: <column of the file>}}."
    )
