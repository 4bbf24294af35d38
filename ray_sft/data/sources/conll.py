"""Columns of tokens and tags, as named-entity data is published since CoNLL-2003."""

import re
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from ray_sft.data.sources.base import BadRow, RawRow
from ray_sft.data.sources.files import TextFile

__all__ = ["Conll"]

_DOCUMENT_START = "-DOCSTART-"
_BLANKS = re.compile("[ \t]+")  # str.split() would also cut tokens at a no-break space


class Conll(TextFile):
    """One token a line, an empty line between sentences; rows are ``{tokens, tags}``.

    Every line has the fields of the file's first; a sentence with a line of more or fewer is
    bad. The tags are taken as they stand, whatever their scheme.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".conll", ".txt", ".tsv", ".bio", ".iob")

    source: Literal["conll"] = "conll"
    delimiter: Literal["auto", "tab", "space"] = "auto"
    """What separates fields; auto: a tab where the file's first line has one, or else blanks."""
    token_column: int = 0
    """The field with the token; negative numbers count from the end."""
    tag_column: int = -1
    """The field with the tag; negative numbers count from the end."""

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        if self.token_column == self.tag_column:
            raise ValueError(f"token_column and tag_column are both {self.tag_column}")
        return self

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        del part
        return ["tokens", "tags"]

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`; ``-DOCSTART-`` lines are left out."""
        with self.open(part) as file:
            width, delimiter = 0, self.delimiter
            for sentence in _sentences(self.lines(file)):
                if isinstance(sentence, BadRow):
                    yield sentence
                    continue
                if delimiter == "auto":
                    delimiter = "tab" if "\t" in sentence[0][1] else "space"
                lines = [(number, _fields(line, delimiter)) for number, line in sentence]
                width = width or self._width(lines)
                yield self._row(lines, width)

    def _width(self, lines: list[tuple[int, list[str]]]) -> int:
        """The number of fields of the first line that has the named columns; 0 where none has."""
        return next((len(fields) for _, fields in lines if self._has_columns(len(fields))), 0)

    def _has_columns(self, width: int) -> bool:
        columns = (self.token_column, self.tag_column)
        inside = all(-width <= column < width for column in columns)
        return inside and len({column % width for column in columns}) == 2

    def _row(self, lines: list[tuple[int, list[str]]], width: int) -> RawRow:
        tokens, tags = [], []
        for number, fields in lines:
            if not width or len(fields) != width:
                expected = f"the file has {width}" if width else "a token and a tag are needed"
                return BadRow(f"line {number} has {len(fields)} fields where {expected}")
            token, tag = fields[self.token_column], fields[self.tag_column]
            if not token or not tag:
                return BadRow(f"line {number} has an empty {'tag' if token else 'token'}")
            tokens.append(token)
            tags.append(tag)
        return {"tokens": tokens, "tags": tags}


def _sentences(lines: Iterable[str | BadRow]) -> Iterator[list[tuple[int, str]] | BadRow]:
    """Numbered lines, by sentence; a bad line spoils its sentence."""
    kept: list[tuple[int, str]] = []
    bad: BadRow | None = None
    for number, line in enumerate(lines, start=1):
        if isinstance(line, BadRow):
            bad = line
        elif line.strip() and not line.startswith(_DOCUMENT_START):
            kept.append((number, line.rstrip("\r\n")))
        elif kept or bad:
            yield bad or kept
            kept, bad = [], None
    if kept or bad:
        yield bad or kept


def _fields(line: str, delimiter: str) -> list[str]:
    return line.split("\t") if delimiter == "tab" else _BLANKS.split(line.strip(" \t"))
