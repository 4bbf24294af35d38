"""Files that are there when they are whole: written beside their name, and moved onto it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray_sft.core.errors import DataError, reason_of

__all__ = ["whole_file", "write_whole", "writing_to"]

_MIB = 1 << 20


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


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Around a block that writes below a folder: what keeps it from that is told to the user.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = (error.strerror or reason_of(error)).rstrip(".")
        raise DataError(
            f"cannot write to '{folder}': {reason}{_room(folder)}. Make room there, or let the "
            "run lie on another disk (--runs-dir), and run it again."
        ) from None


def _room(folder: Path) -> str:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return f" ({shutil.disk_usage(there).free / _MIB:.1f} MiB are free)"
