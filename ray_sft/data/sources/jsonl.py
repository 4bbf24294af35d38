"""JSON lines."""

import json
from collections.abc import Iterator
from typing import ClassVar, Literal

from ray_sft.data.sources.base import BadRow, RawRow
from ray_sft.data.sources.files import TextFile

__all__ = ["Jsonl"]


class Jsonl(TextFile):
    """One JSON object a line."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")
    rows_are_alike: ClassVar[bool] = False

    source: Literal["jsonl"] = "jsonl"

    def column_names(self, part: str) -> list[str] | None:
        """The keys of the first object; other lines may hold others."""
        for row in self.read(part):
            if isinstance(row, dict):
                return list(row)
        return None

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`; a line that is no JSON object is bad."""
        with self.open(part) as file:
            for line in self.lines(file):
                if isinstance(line, BadRow):
                    yield line
                elif line.strip():
                    yield _json_object(line)


def _json_object(line: str) -> RawRow:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        return BadRow(f"not JSON: {error}")
    return row if isinstance(row, dict) else BadRow(f"a JSON {type(row).__name__}, not an object")
