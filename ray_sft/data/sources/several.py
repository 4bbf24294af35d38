"""Several sources as one."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from ray_sft.data.sources.base import RawRow, ReadRow, Slice, Source
from ray_sft.data.sources.conll import Conll
from ray_sft.data.sources.csv import Csv
from ray_sft.data.sources.hub import Hub
from ray_sft.data.sources.jsonl import Jsonl
from ray_sft.data.sources.lancedb import LanceDb
from ray_sft.data.sources.parquet import Parquet
from ray_sft.data.sources.sql import Sql
from ray_sft.data.sources.text import Text

__all__ = ["Several", "SingleSource"]

SingleSource: TypeAlias = Csv | Jsonl | Parquet | Text | Hub | Conll | Sql | LanceDb
"""Every source that reads from one place."""


class Several(Source):
    """The rows of several sources, one after the other; each has its own columns and weight."""

    source: Literal["several"] = "several"
    sources: tuple[Annotated[SingleSource, Field(discriminator="source")], ...] = Field(
        min_length=1, max_length=1000
    )
    """Where the rows come from."""

    @model_validator(mode="after")
    def _each_has_its_own(self) -> Self:
        # by value: a recipe that was written down has every field
        defaults = {
            name: field.get_default(call_default_factory=True)
            for name, field in Source.model_fields.items()
        }
        if given := sorted(name for name in defaults if getattr(self, name) != defaults[name]):
            raise ValueError(f"'{given[0]}' belongs to the single sources, not to several")
        return self

    @property
    def title(self) -> str:
        """See `Source.title`."""
        return " + ".join(source.title for source in self.sources)

    def parts(self) -> list[str]:
        """The parts of all, each with the number of its source before it."""
        return [
            f"{number}:{part}"
            for number, source in enumerate(self.sources)
            for part in source.parts()
        ]

    def slices(self) -> list[Slice]:
        """What to read of each part of each source."""
        found: list[Slice] = []
        first = 0
        for number, source in enumerate(self.sources):
            found += [
                replace(chosen, number=first + chosen.number, part=f"{number}:{chosen.part}")
                for chosen in source.slices()
            ]
            first += len(source.parts())
        return found

    def rows(self, chosen: Slice) -> Iterator[tuple[int, ReadRow]]:
        """See `Source.rows`."""
        source, part = self._source(chosen.part)
        return source.rows(replace(chosen, part=part))

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`; under the names that the task reads."""
        source, part = self._source(part)
        names = source.column_names(part)
        return None if names is None else list(dict.fromkeys([*source.columns, *names]))

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`."""
        source, part = self._source(part)
        return source.read(part)

    def weight_of(self, part: str) -> float:
        """See `Source.weight_of`."""
        source, part = self._source(part)
        return source.weight_of(part)

    def fingerprint(self) -> str:
        """See `Source.fingerprint`."""
        prints = "".join(source.fingerprint() for source in self.sources)
        return hashlib.sha256(prints.encode()).hexdigest()

    def _source(self, part: str) -> tuple[Source, str]:
        number, _, inner = part.partition(":")
        return self.sources[int(number)], inner
