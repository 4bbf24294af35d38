"""What sources of files share: a path to many files, and text in any encoding, line by line."""

import codecs
import hashlib
import io
from abc import ABC
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import ClassVar, Self, TextIO

from pydantic import Field

from ray_sft.bundle.manifest import hash_file
from ray_sft.core import DataError
from ray_sft.core.storage import StoredFile, find_files, open_stream
from ray_sft.data.sources.base import BadRow, ReadRow, Slice, Source

__all__ = ["Files", "TextFile", "Undecoded"]

_EMBEDDED = "embedded/samples"
_BYTE = 0xFF
"""The bits of a byte in the character by which ``surrogateescape`` spells it."""


class Files(Source, ABC):
    """Rows of files, of this machine or of object storage, compressed or not."""

    path: str = Field(min_length=1)
    """A file, a glob, or a folder (every file below it with a fitting suffix); a path of this
    machine or a URI such as ``s3://bucket/folder``."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    rows_are_alike: ClassVar[bool] = True
    """Whether every row of a file has the file's columns."""

    @property
    def title(self) -> str:
        """See `Source.title`."""
        return self.path

    def parts(self) -> list[str]:
        """The files, sorted by name.

        Raises:
            DataError: the path matches nothing, or only empty files.
        """
        return [file.path for file in self._files()]

    def fingerprint(self) -> str:
        """SHA-256 over this source's settings and its files.

        Of files of this machine the content counts, and not where they are; of others their
        names, sizes and versions.
        """
        digest = hashlib.sha256(self.model_dump_json(exclude={"path"}).encode())
        for file in self._files():
            is_local = "://" not in file.path
            digest.update((hash_file(Path(file.path)) if is_local else repr(file)).encode())
        return digest.hexdigest()

    def rows(self, chosen: Slice) -> Iterator[tuple[int, ReadRow]]:
        """See `Source.rows`.

        Raises:
            DataError: the file lacks a column that the recipe names.
        """
        if self.columns and self.rows_are_alike:
            names = self.column_names(chosen.part) or []
            if missing := [name for name in self.columns.values() if name not in names]:
                raise DataError(
                    f"data file '{chosen.part}' has no column '{missing[0]}' (it has: "
                    f"{', '.join(names)}), which the recipe names in columns."
                )
        return super().rows(chosen)

    def _files(self) -> list[StoredFile]:
        found = find_files(_resolved(self.path), self.suffixes)
        if not any(file.num_bytes for file in found):
            raise DataError(f"data file '{found[0].path}' is empty.")
        return found


def _resolved(path: str) -> str:
    """A path as the user means it; ``embedded/samples/...`` are rows of this package."""
    if path.startswith(_EMBEDDED):
        return str(Path(str(resources.files("ray_sft"))) / path.removeprefix("embedded/"))
    return path


class Undecoded(BadRow):
    """Why a line is bad whose bytes are not all UTF-8, in a file whose lines are."""

    line: str
    """The line, with those bytes as ``surrogateescape`` spells them."""
    byte: str
    """The first of them, such as ``0xe9``."""

    @classmethod
    def in_text(cls, text: str) -> Self | None:
        """What is wrong with a text; None where every byte was UTF-8."""
        try:
            text.encode()  # faster than a search for such characters
        except UnicodeEncodeError as error:
            byte = f"0x{ord(text[error.start]) & _BYTE:02x}"
        else:
            return None
        reason = cls(f"byte {byte} is not utf-8, unlike the lines before")
        reason.line, reason.byte = text, byte
        return reason


class TextFile(Files, ABC):
    """A source of text files."""

    encoding: str = "utf-8-sig"
    """How the bytes spell characters; the default is UTF-8 with or without a byte-order mark. A
    line that is not UTF-8 is rejected where an earlier line of the file shows that the others
    are; the first line beyond ASCII that is not ends the reading, since the whole file may be in
    another encoding."""
    max_line: int = Field(default=4_000_000, ge=1000)
    """Characters of the longest line that is read; longer ones are rejected."""

    @contextmanager
    def open(self, part: str) -> Iterator[TextIO]:
        """The opened file, line ends untouched.

        Raises:
            DataError: the encoding is unknown, what is read in the block is not in it, or the
                file ends too soon.
        """
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise DataError(f"encoding '{self.encoding}' is not known.") from None
        with open_stream(part) as stream:
            file = io.TextIOWrapper(
                io.BufferedReader(stream, 1 << 20),  # type: ignore[type-var] # reads like one
                encoding=self.encoding,
                errors="surrogateescape" if self._is_utf8 else "strict",
                newline="",
            )
            try:
                yield file
            except UnicodeDecodeError as error:
                where, byte = "", f"0x{error.object[error.start]:02x}"
            except _NotUtf8Error as error:
                where, byte = f" in line {error.number}", error.byte
            else:
                return
        raise DataError(
            f"data file '{part}' is not {self.encoding.removesuffix('-sig')}: byte {byte}{where} "
            "cannot be read. Name the file's encoding (encoding: gb18030, latin-1, ...) or save "
            "it as UTF-8."
        )

    @property
    def _is_utf8(self) -> bool:
        return codecs.lookup(self.encoding).name in ("utf-8", "utf-8-sig")

    def lines(self, file: TextIO) -> Iterator[str | BadRow]:
        """The lines of a file, with their ends; one that is too long or not UTF-8 is bad.

        No more of a line than ``max_line`` is held in memory.
        """
        is_proven = False  # to be UTF-8, by a line beyond ASCII
        for number, line in enumerate(self._lines_in_bounds(file), start=1):
            bad = None if isinstance(line, BadRow) else Undecoded.in_text(line)
            if bad and not is_proven:
                raise _NotUtf8Error(number, bad.byte)
            is_proven = is_proven or not (isinstance(line, BadRow) or line.isascii())
            yield bad or line

    def _lines_in_bounds(self, file: TextIO) -> Iterator[str | BadRow]:
        while line := file.readline(self.max_line):
            if len(line) < self.max_line or line.endswith(("\n", "\r")):
                yield line
                continue
            length = len(line)
            while rest := file.readline(self.max_line):
                length += len(rest)
                if rest.endswith(("\n", "\r")):
                    break
            if length == self.max_line:
                yield line
            else:
                yield BadRow(
                    f"a line of {length} characters, where max_line allows {self.max_line}"
                )


class _NotUtf8Error(Exception):
    """The first line of a file that is not ASCII is not UTF-8."""

    def __init__(self, number: int, byte: str) -> None:
        super().__init__(number, byte)
        self.number = number
        self.byte = byte
