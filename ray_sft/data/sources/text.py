"""Running text."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

from ray_sft.data.sources.base import RawRow, TextFile

__all__ = ["Text"]


class Text(TextFile):
    """Plain text or markdown; every row has one column, ``text``."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".md")

    source: Literal["text"] = "text"
    unit: Literal["line", "paragraph", "file"] = "paragraph"
    """What one row is; paragraphs end at an empty line."""

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        del part
        return ["text"]

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`."""
        with self.open(part) as file:
            yield from ({"text": text} for text in _units(file, self.unit))


def _units(lines: Iterable[str], unit: str) -> Iterator[str]:
    kept: list[str] = []
    for line in lines:
        ends_unit = unit == "line" or (unit == "paragraph" and not line.strip())
        kept.append(line)
        if ends_unit:
            text = "".join(kept).strip()
            kept.clear()
            if text:
                yield text
    if text := "".join(kept).strip():
        yield text
