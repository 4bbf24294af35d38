"""Running text."""

from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

from pydantic import Field

from ray_sft.core.sentences import sentence_spans
from ray_sft.data.sources.base import BadRow, RawRow
from ray_sft.data.sources.files import TextFile

__all__ = ["Text"]


class Text(TextFile):
    """Plain text or markdown; every row has one column, ``text``."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".md")

    source: Literal["text"] = "text"
    unit: Literal["line", "paragraph", "passage", "file"] = "paragraph"
    """What one row is. Paragraphs end at an empty line; passages are paragraphs put together, or
    taken apart at the ends of sentences, to about ``passage_chars``: what a book is cut into."""
    passage_chars: int = Field(default=2000, ge=100)
    """Characters of the longest passage."""

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        del part
        return ["text"]

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`."""
        with self.open(part) as file:
            units = _units(self.lines(file), "paragraph" if self.unit == "passage" else self.unit)
            if self.unit == "passage":
                units = _passages(units, self.passage_chars)
            yield from (unit if isinstance(unit, BadRow) else {"text": unit} for unit in units)


def _units(lines: Iterable[str | BadRow], unit: str) -> Iterator[str | BadRow]:
    kept: list[str] = []
    for line in lines:
        if isinstance(line, BadRow):
            yield line
            continue
        kept.append(line)
        if unit == "line" or (unit == "paragraph" and not line.strip()):
            text = "".join(kept).strip()
            kept.clear()
            if text:
                yield text
    if text := "".join(kept).strip():
        yield text


def _passages(paragraphs: Iterable[str | BadRow], longest: int) -> Iterator[str | BadRow]:
    """Paragraphs together as long as they fit; one that does not fit alone is taken apart."""
    kept = ""
    for paragraph in paragraphs:
        if isinstance(paragraph, BadRow):
            yield paragraph
            continue
        for piece, joint in _pieces(paragraph, longest):
            if kept and len(kept) + len(joint) + len(piece) > longest:
                yield kept
                kept = piece
            else:
                kept = kept + joint + piece if kept else piece
    if kept:
        yield kept


def _pieces(paragraph: str, longest: int) -> Iterator[tuple[str, str]]:
    """Parts of a paragraph of at most ``longest``, each with what stands before it."""
    joint = "\n\n"
    if len(paragraph) <= longest:
        yield paragraph, joint
        return
    for start, end in sentence_spans(paragraph):
        rest = paragraph[start:end]
        while rest:
            cut = len(rest) if len(rest) <= longest else rest.rfind(" ", 0, longest) + 1 or longest
            yield rest[:cut].strip(), joint
            rest, joint = rest[cut:].strip(), " "
