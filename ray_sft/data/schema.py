"""What a recipe says about data, and the checks made before any worker starts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Self

from pydantic import field_validator

from ray_sft.core import Config, DataError
from ray_sft.data.sources import AnySource, Several, Source
from ray_sft.tasks import Task

__all__ = ["Splits", "check_columns"]


class Splits(Config):
    """The rows of one task."""

    train: AnySource
    """Rows to learn from; a list of sources is read as one."""
    eval: AnySource
    """Rows to measure on; never trained or augmented. A list of sources is read as one."""

    @field_validator("train", "eval", mode="before")
    @classmethod
    def _list_of_sources(cls, given: object) -> object:
        return {"source": "several", "sources": given} if isinstance(given, list) else given

    @field_validator("eval")
    @classmethod
    def _evaluation_counts_once(cls, source: Source) -> Source:
        single = source.sources if isinstance(source, Several) else (source,)
        if any(item.weight != 1 for item in single):
            raise ValueError("a weight belongs to training; evaluation reads every row once")
        return source

    def items(self) -> Mapping[str, Source]:
        """The splits by name."""
        return {"train": self.train, "eval": self.eval}

    def mapping(self, columns: Sequence[str]) -> Self:
        """The same rows for a task that reads ``columns``; other mappings are left out."""
        return self._each(lambda source: _with_columns(source, columns))

    def with_first_rows(self, count: int) -> Self:
        """No more than ``count`` rows of each source."""
        return self._each(lambda source: _with_first_rows(source, count))

    def _each(self, change: Callable[[Source], Source]) -> Self:
        """Every single source changed."""
        changed: dict[str, Source] = {}
        for split, source in self.items().items():
            if isinstance(source, Several):
                sources = tuple(change(single) for single in source.sources)
                changed[split] = source.model_copy(update={"sources": sources})
            else:
                changed[split] = change(source)
        return self.model_copy(update=changed)


def _with_columns(source: Source, columns: Sequence[str]) -> Source:
    kept = {k: v for k, v in source.columns.items() if k in columns}
    return source.model_copy(update={"columns": kept})


def _with_first_rows(source: Source, count: int) -> Source:
    take = min(source.take or count, count)
    return source.model_copy(update={"take": take})


def check_columns(name: str, source: Source, task: Task) -> None:
    """Checks that each source has the columns that the recipe and the task name.

    The first part of a source is looked at; readers look at the others.

    Raises:
        DataError: a mapped column is missing, or none of the task's columns is there.
    """
    if isinstance(source, Several):
        for number, single in enumerate(source.sources):
            check_columns(f"{name}[{number}]", single, task)
        return
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
