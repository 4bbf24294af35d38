"""Rows streamed without end: encoded a window at a time, while training reads the one before.

    TRAIN/                               the first window, as the shards of a split
    TRAIN/windows/00000001/              the second one, and so on; each a split of its own
    TRAIN/windows/00000001/window.json   written last
    TRAIN/windows/rejected/              what was not used of the later windows, in one pass

A window is the next rows of the source, in its order. Where the source ends a window ends too, and
the next one begins at the first row again. So what a window holds follows from its number alone,
and one that a resumed run needs again is written again. Windows that no checkpoint needs any more
are removed: neither the disk nor the time before the first step grows with the data.
"""

import logging
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from ray_sft.core import DataError, RaySFTError
from ray_sft.core.whole_files import write_whole, writing_to
from ray_sft.data.augment import AnyAugmentation, Gate
from ray_sft.data.encode import EncodeRows
from ray_sft.data.index import INDEX, write_index
from ray_sft.data.quality import Quality, unwanted_rows
from ray_sft.data.rows import RowBlock, position_of, readable_errors
from ray_sft.data.shards import write_shards
from ray_sft.data.sources import BadRow, LeftOut, Slice, Source
from ray_sft.data.store import SampleStore
from ray_sft.data.summary import SplitSummary
from ray_sft.tasks import AnyTask, Row

__all__ = ["Stream", "WindowFeed", "WindowWriter", "Windows", "rejected_rows", "write_first_window"]

logger = logging.getLogger(__name__)

_AHEAD = 2
"""Windows that are written before they are read."""
_BLOCK_ROWS = 256
_POLL_S = 0.2
_ANSWER_S = 120.0
_MARK = "window.json"
_LATER = "windows"
_REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Stream:
    """The rows of a source without end, and what is made of them."""

    source: Source
    slices: tuple[Slice, ...]
    """Of ``source``, as it was found when the stream began."""
    task: AnyTask
    processor_dir: Path
    folder: Path
    """The shards of the first window; the later ones lie below it."""
    eval_dir: Path
    """The shards of evaluation, whose rows ``quality`` may keep out of training."""
    rows: int
    """Of a window, good and bad ones; the last one of a pass has what is left."""
    quality: Quality
    gate: Gate
    augment: tuple[AnyAugmentation, ...] = ()
    seed: int = 0

    def window(self, number: int) -> Path:
        """Where a window is, counted from 0."""
        return self.folder / _LATER / f"{number:08}" if number else self.folder

    def has(self, number: int) -> bool:
        """Whether the window is whole."""
        return (self.window(number) / _MARK).is_file()

    def remove(self, *, before: int | None = None) -> None:
        """Removes windows before one, or all; the first one stays, and what was rejected."""
        for folder in (self.folder / _LATER).glob("[0-9]*"):
            if before is None or int(folder.name) < before:
                # without its mark it counts as not written, however far the removal comes
                (folder / _MARK).unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)


class _Passes:
    """The rows of a source, again and again, window by window."""

    def __init__(self, stream: Stream) -> None:
        """At the first row."""
        self._stream = stream
        self.number, self.passes = 0, 0
        """Of the next window, and how many passes have ended."""
        self._per_pass = 0
        """Windows of a pass, once one has ended."""
        self.num_left_out = 0
        """Rows that the recipe does not want, of those read since someone set it to 0."""
        self._left = self._rows()
        self._next = next(self._left, None)

    def _rows(self) -> Iterator[tuple[int, Row | BadRow, float]]:
        """Position, row and weight of all that the recipe wants."""
        source = self._stream.source
        for chosen in self._stream.slices:
            weight = source.weight_of(chosen.part)
            for index, row in source.rows(chosen):
                if isinstance(row, LeftOut):
                    self.num_left_out += 1
                else:
                    yield position_of(chosen.number, index), row, weight

    def window(self) -> Iterator[tuple[int, Row | BadRow, float]]:
        """The rows of the next window; the one after it follows when all of them were taken."""
        taken = 0
        while self._next is not None and taken < self._stream.rows:
            yield self._next
            self._next = next(self._left, None)
            taken += 1
        self.number += 1
        if self._next is None:
            self.passes += 1
            self._per_pass = self._per_pass or self.number
            self._left = self._rows()
            self._next = next(self._left, None)

    def go_on_to(self, number: int) -> None:
        """Reads on to a later window, for which at most one pass is read whole."""
        while self.number < number:
            for _ in self.window():
                pass
            if self._per_pass and self.number % self._per_pass == 0:
                whole = (number - self.number) // self._per_pass
                self.number += whole * self._per_pass
                self.passes += whole
            self.num_left_out = 0


class WindowWriter:
    """Reads a source row by row and writes what it reads window by window."""

    def __init__(self, stream: Stream) -> None:
        """Nothing is read yet."""
        self._stream = stream
        self._encode = EncodeRows(
            stream.task,
            str(stream.processor_dir),
            stream.augment,
            stream.seed,
            stream.quality,
            stream.gate,
        )
        self._passes: _Passes | None = None

    def write(self, number: int) -> SplitSummary:
        """Writes a window; nothing is read for that again where it is the next one.

        Raises:
            DataError: it cannot be read or written, or it is the first one and none of its rows
                can be used.
        """
        try:
            return self._write(number)
        except BaseException as error:
            self._passes = None  # it stands within a window, or cannot be read on
            if isinstance(error, DataError):
                where = f"data '{self._stream.source.title}', window {number + 1}"
                raise DataError(f"{where}: {error}") from None
            raise

    def _write(self, number: int) -> SplitSummary:
        stream, passes = self._stream, self._at(number)
        is_first_pass = passes.passes == 0
        folder = stream.window(number)
        if number:
            shutil.rmtree(folder, ignore_errors=True)
        write_shards(folder, self._tables(passes))
        removed = unwanted_rows(folder, stream.eval_dir, stream.quality)
        # the first one has rows, so that a pass has some
        summary = write_index(folder, removed=removed, may_be_empty=number > 0)
        if not summary.num_accepted:
            logger.warning(
                "%s, window %d: none of its %d rows can be used; see rejected.jsonl",
                *(stream.source.title, number + 1, summary.num_rows),
            )
        with writing_to(folder):
            if number and is_first_pass and summary.num_rejected + summary.num_rejected_copies:
                kept = stream.folder / _LATER / _REJECTED
                kept.mkdir(exist_ok=True)
                shutil.copyfile(folder / INDEX / "rejected.parquet", kept / f"{number:08}.parquet")
            write_whole(folder / _MARK, summary.model_dump_json())
        return summary

    def _at(self, number: int) -> _Passes:
        """The rows, where a window begins."""
        if self._passes is None or self._passes.number > number:
            self._passes = _Passes(self._stream)
        self._passes.go_on_to(number)
        return self._passes

    def _tables(self, passes: _Passes) -> Iterator[pa.Table]:
        """The rows of the next window as lines of shards."""
        rows = passes.window()
        last = 0
        while some := list(islice(rows, _BLOCK_ROWS)):
            block = RowBlock()
            for position, row, weight in some:
                block.take(position, row, weight=weight)
            yield self._encode(block.columns())
            last = some[-1][0]
        if passes.num_left_out:
            block = RowBlock()
            block.add(last, "null", num_left_out=passes.num_left_out)
            passes.num_left_out = 0
            yield self._encode(block.columns())


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class WindowFeed:
    """Writes the windows of a stream beside a training, some ahead of where it reads.

    It takes no share of the cluster, so that it runs beside workers that have all of it: one
    process reads and encodes some thousand rows a second.
    """

    def __init__(self, stream: Stream) -> None:
        """Waits to be told of the first window."""
        self._stream = stream
        self._wanted: int | None = None
        self._error: Exception | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._write, name="windows", daemon=True).start()

    def expect(self, number: int) -> None:
        """A window will be asked for."""
        with self._changed:
            self._wanted = number
            self._changed.notify()

    def ready(self, number: int) -> bool:
        """Whether a window is there; it is written if not.

        Raises:
            DataError: it cannot be; asked again, it is tried again.
        """
        with self._changed:
            error, self._error = self._error, None
            self._wanted = None if error else number  # who asks again finds out anew
            self._changed.notify()
        if error is not None:
            raise error
        return self._stream.has(number)

    def release(self, before: int) -> None:
        """The windows before one are needed no more."""
        self._stream.remove(before=before)

    def _write(self) -> None:
        writer = WindowWriter(self._stream)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._error is None and self._missing() is not None)
                number = self._missing()
            assert number is not None, "the condition holds until the lock is released"
            try:
                writer.write(number)
            except Exception as error:  # noqa: BLE001 - told to whoever asks for the window
                with self._changed:
                    self._error = error if isinstance(error, RaySFTError) else _plain(error)

    def _missing(self) -> int | None:
        """The first window that is to be written."""
        if self._wanted is None:
            return None
        ahead = range(self._wanted, self._wanted + _AHEAD)
        return next((number for number in ahead if not self._stream.has(number)), None)


def _plain(error: Exception) -> DataError:
    """What a library raised, in a form that every process can read."""
    return DataError(f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True)
class Windows:
    """A worker's side of a stream."""

    stream: Stream
    feed: Any
    """Handle of a `WindowFeed`."""

    def open(self, number: int) -> Path:
        """The shards of a window; waits until they are there.

        Raises:
            DataError: they cannot be written.
        """
        with readable_errors():
            while number and not ray.get(self.feed.ready.remote(number), timeout=_ANSWER_S):
                time.sleep(_POLL_S)
        self.feed.expect.remote(number + 1)
        return self.stream.window(number)

    def release(self, before: int) -> None:
        """No checkpoint needs the windows before one any more."""
        self.feed.release.remote(before)


def write_first_window(stream: Stream) -> SplitSummary:
    """Writes the first window, in a process of its own.

    Raises:
        DataError: see `WindowWriter.write`.
    """
    with readable_errors():
        summary: SplitSummary = ray.get(_write_first_window.remote(stream))
    return summary


@ray.remote
def _write_first_window(stream: Stream) -> SplitSummary:
    return WindowWriter(stream).write(0)


def rejected_rows(folder: Path) -> pa.Table:
    """What is not used of a split, or of all windows that were written of it in the first pass."""
    later = sorted((folder / _LATER / _REJECTED).glob("*.parquet"))
    return pa.concat_tables([SampleStore(folder).rejected, *map(pq.read_table, later)])
