"""The contract of a source: parts that are read apart from each other, numbered rows out.

A part is a file, or a range of keys of a database. A reader yields rows one by one, so a part of
any size passes in constant memory. What makes a single row unusable is a `BadRow` with a reason;
what makes the part unusable is a `DataError`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from pydantic import Field, field_validator

from ray_sft.core import Config
from ray_sft.data.sources.selection import Portion, Where

__all__ = ["BadRow", "LeftOut", "RawRow", "ReadRow", "Slice", "Source"]


class BadRow(str):
    """Why a row of a part cannot be used."""

    __slots__ = ()


class LeftOut:
    """Stands for a row that the recipe does not want."""

    __slots__ = ()


RawRow: TypeAlias = "dict[str, Any] | BadRow"
ReadRow: TypeAlias = "RawRow | LeftOut"


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows of one part that a source takes."""

    number: int
    """The part's place among the parts of the source."""
    part: str
    """The part."""
    start: int
    stop: int | None
    """Where the rows end, counted from the beginning of the part; None for its end."""


class Source(Config, ABC):
    """Rows from somewhere; ``columns`` maps the task's columns to those of the source."""

    columns: dict[str, str] = Field(default_factory=dict)
    """Column that the task reads -> column of the source, where the names differ."""
    skip: int = Field(default=0, ge=0)
    """How many rows to leave out at the beginning, good and bad ones, over all parts together."""
    take: int = Field(default=0, ge=0)
    """How many rows to read after those, good and bad ones; 0 for all."""
    where: str = ""
    """Which of those rows to keep: an expression over the source's columns, such as
    ``number(stars) >= 3 and lang in ('en', 'zh')``; empty for all."""
    portion: Portion | None = None
    """Which share of the rows to keep, by a hash of their ids."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """How often an epoch of training has each row: 2 for twice, 0.5 for every second one, drawn
    anew each epoch. Evaluation reads every row once."""

    @field_validator("where")
    @classmethod
    def _where_can_be_read(cls, where: str) -> str:
        Where(where)
        return where

    @property
    @abstractmethod
    def title(self) -> str:
        """What messages call the source."""

    @abstractmethod
    def parts(self) -> list[str]:
        """The parts in their order; one reader each.

        Raises:
            DataError: there is nothing to read.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Changes with the source's settings and with its rows."""

    @abstractmethod
    def column_names(self, part: str) -> list[str] | None:
        """The columns of a part, or None where it has no row to tell them."""

    @abstractmethod
    def read(self, part: str) -> Iterator[RawRow]:
        """All rows of one part, in order, under the source's own column names."""

    def slices(self) -> list[Slice]:
        """What to read of each part; every reader begins here, so all honour `skip` and `take`.

        Where a part's share depends on how many rows stand in the parts before it, those are
        counted first.

        Raises:
            DataError: there is nothing to read.
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

    def rows(self, chosen: Slice) -> Iterator[tuple[int, ReadRow]]:
        """The rows of a slice with their numbers in the part, under the names the task reads."""
        where = Where(self.where)
        for index, row in islice(enumerate(self.read(chosen.part)), chosen.start, chosen.stop):
            yield index, row if isinstance(row, BadRow) else self._chosen(row, where)

    def weight_of(self, part: str) -> float:
        """How often an epoch has each row of a part."""
        del part
        return self.weight

    def _chosen(self, row: dict[str, Any], where: Where) -> ReadRow:
        try:
            wanted = where(row) and (self.portion is None or self.portion.has(row))
        except ValueError as error:
            return BadRow(str(error))
        return self.rename(row) if wanted else LeftOut()

    def rename(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """``row`` under the names that the task reads."""
        return dict(row) | {name: row.get(column) for name, column in self.columns.items()}
