"""Files that are there when they are whole: written beside their name, and moved onto it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["whole_file", "write_whole"]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The path to write to; at the end of the block its file takes the place of ``path``.

    A reader sees the former file or the new one, never a part; where the block fails, the former.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    try:
        yield draft
        os.replace(draft, path)  # noqa: PTH105 - atomic
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Writes a text file, see `whole_file`."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")
