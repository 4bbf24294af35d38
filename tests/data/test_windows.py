"""Rows streamed without end: what a window holds, and the process that writes windows ahead."""

import json
import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray

from ray_sft.core import DataError
from ray_sft.data import Jsonl, Quality, SampleStore, Splits, encode, prepare, write_rejected
from ray_sft.data.augment import Gate, SurfaceNoise
from ray_sft.data.index import write_index
from ray_sft.data.rows import split_position
from ray_sft.data.windows import Stream, WindowFeed, Windows, WindowWriter
from ray_sft.models import train_tokenizer
from ray_sft.tasks import SequenceClassification
from tests.waiting import wait_until

TASK = SequenceClassification(labels=("bill", "card"), max_length=32)
BAD = {7, 30, 31}


def lines(first: int, count: int) -> str:
    rows = (
        {
            "text": " " if n in BAD else f"question {n} about parcel {n * 7919 % 10_007}",
            "label": ("bill", "card")[n % 2],
        }
        for n in range(first, first + count)
    )
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A processor, 37 training rows in three files, and the rows of evaluation as shards."""
    made = tmp_path_factory.mktemp("rows")
    texts = ["a question about a parcel"] * 9
    train_tokenizer(texts, vocab_size=300).save_pretrained(made / "processor")
    (made / "train").mkdir()
    for name, first, count in (("a", 0, 10), ("b", 10, 1), ("c", 11, 26)):
        (made / "train" / f"{name}.jsonl").write_text(lines(first, count))
    (made / "eval.jsonl").write_text(lines(100, 5) + lines(3, 1))
    return made


@pytest.fixture(scope="module")
def eval_dir(folder: Path) -> Path:
    source = Jsonl(path=str(folder / "eval.jsonl"))
    shards = folder / "shards" / "eval"
    encode(source, TASK, processor_dir=folder / "processor", out_dir=shards, num_tasks=1)
    write_index(shards)
    return shards


def stream(
    folder: Path, out: Path, *, rows: int, path: Path | None = None, where=None, **settings
) -> Stream:
    source = Jsonl(path=str(path or folder / "train"), **(where or {}))
    settings = {"quality": Quality(), "gate": Gate()} | settings
    return Stream(
        source,
        tuple(source.slices()),
        TASK,
        processor_dir=folder / "processor",
        folder=out,
        eval_dir=folder / "shards" / "eval",
        rows=rows,
        **settings,
    )


def said(shards: Path) -> list[tuple]:
    """Position, copy, weight, ids and label of every sample."""
    store = SampleStore(shards)
    return [
        (
            int(position),
            int(copy),
            float(weight),
            example.arrays["input_ids"].tolist(),
            int(example.arrays["labels"]),
        )
        for position, copy, weight, example in zip(
            store.positions, store.copy_numbers, store.weights, store.all(), strict=True
        )
    ]


pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("local_ray", "eval_dir"),
]


@pytest.mark.parametrize(
    ("rows", "per_pass"), [(1000, 1), (37, 1), (36, 2), (10, 4), (12, 4)]
)  # fmt: skip
def test_the_windows_of_a_pass_hold_every_row_once_in_order(folder, tmp_path, rows, per_pass):
    noise = (SurfaceNoise(copies=2),)
    settings = {"augment": noise, "quality": Quality(min_chars=3), "seed": 4}
    of_all = tmp_path / "whole"
    encode(
        Jsonl(path=str(folder / "train")),
        TASK,
        processor_dir=folder / "processor",
        out_dir=of_all,
        num_tasks=2,
        **settings,
    )
    write_index(of_all)
    made = stream(folder, tmp_path / "out", rows=rows, **settings)
    writer = WindowWriter(made)
    for number in range(2 * per_pass):
        writer.write(number)
    windows = [said(made.window(number)) for number in range(2 * per_pass)]
    assert list(chain(*windows[:per_pass])) == said(of_all)
    assert windows[per_pass:] == windows[:per_pass]


@pytest.mark.parametrize("number", [0, 1, 3, 4, 6, 9, 402])
def test_what_a_window_holds_follows_from_its_number(folder, tmp_path, number):
    source = {"skip": 2, "where": "label == 'bill' or len(text) > 28", "weight": 0.5}
    made = stream(folder, tmp_path / "one", rows=5, where=source)
    writer = WindowWriter(made)
    per_pass = next(n for n in range(1, 99) if _last_of_pass(writer, n - 1, made))
    again = stream(folder, tmp_path / "other", rows=5, where=source)
    summary = WindowWriter(again).write(number)
    assert said(again.window(number)) == said(made.window(number % per_pass))
    assert summary == writer.write(number)
    # back to one before
    assert writer.write(0).num_rows == 5


def _last_of_pass(writer: WindowWriter, number: int, made: Stream) -> bool:
    """Writes a window; whether the last row of the source is in it."""
    writer.write(number)
    return split_position(int(SampleStore(made.window(number)).positions[-1])) == (2, 25)


def test_rows_that_are_left_out_are_counted_where_they_stand(folder, tmp_path):
    made = stream(folder, tmp_path, rows=6, where={"where": "label == 'bill'"})
    writer = WindowWriter(made)
    found = [writer.write(number) for number in range(4)]
    assert [one.num_rows for one in found] == [6, 6, 6, 1]
    assert sum(one.num_left_out for one in found) == 18
    assert sum(writer.write(number).num_left_out for number in range(4, 8)) == 18


def test_what_is_rejected_is_listed_once_however_long_the_stream(folder, tmp_path):
    made = stream(folder, tmp_path / "train", rows=10)
    writer = WindowWriter(made)
    for number in range(9):
        writer.write(number)
    made.remove()
    assert not list((tmp_path / "train" / "windows").glob("0*"))
    assert write_rejected([("topic/train", tmp_path / "train")], tmp_path / "rejected.jsonl") == 3
    found = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert [(line["file"], line["row"]) for line in found] == [(0, 7), (2, 19), (2, 20)]


def test_rows_of_evaluation_and_repetitions_in_a_window_are_removed(folder, tmp_path):
    quality = Quality(duplicates="exact", leaks="remove")
    writer = WindowWriter(stream(folder, tmp_path, rows=10, quality=quality))
    summary = writer.write(0)
    assert summary.reasons["says the same as a row of evaluation"] == 1
    assert summary.num_accepted == 8


def test_a_window_without_a_usable_row_is_passed_over_but_not_the_first(folder, tmp_path, caplog):
    made = stream(folder, tmp_path / "train", rows=1)
    writer = WindowWriter(made)
    writer.write(0)
    assert (writer.write(7).num_rejected, len(SampleStore(made.window(7)))) == (1, 0)
    assert "window 8: none of its 1 rows can be used" in caplog.text
    assert writer.write(8).num_accepted == 1
    assert write_rejected([("topic/train", tmp_path / "train")], tmp_path / "rejected.jsonl") == 1
    late = stream(folder, tmp_path / "late", rows=1, where={"skip": 7})
    with pytest.raises(DataError, match=r"train', window 1: none of the 1 rows can be used; .*"):
        WindowWriter(late).write(0)


@pytest.mark.parametrize("number", [0, 3])
def test_a_source_that_goes_away_on_the_way_loses_no_row(folder, tmp_path, number):
    """While a window is written, and while windows before it are read over."""
    copied = shutil.copytree(folder / "train", tmp_path / "rows")
    made = stream(folder, tmp_path / "out", rows=11, path=copied)
    writer = WindowWriter(made)
    (copied / "c.jsonl").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"window {number + 1}: "):
        writer.write(number)
    (tmp_path / "elsewhere").rename(copied / "c.jsonl")
    writer.write(number)
    other = stream(folder, tmp_path / "other", rows=11)
    WindowWriter(other).write(number)
    assert said(made.window(number)) == said(other.window(number))


def test_a_place_that_cannot_be_written_leaves_no_window(folder, tmp_path):
    made = stream(folder, tmp_path / "out", rows=10)
    writer = WindowWriter(made)
    writer.write(1)
    made.window(2).write_text("a file where the folder should be")
    with pytest.raises(DataError, match="window 3: cannot write to"):
        writer.write(2)
    assert not made.has(2)


def test_the_data_stage_encodes_the_first_window_alone(folder, tmp_path):
    made = stream(folder, tmp_path / "train", rows=12)
    summary = prepare(
        TASK,
        Splits(train=made.source, eval=Jsonl(path=str(folder / "eval.jsonl"))),
        processor_dir=made.processor_dir,
        out_dir=tmp_path,
        num_tasks=2,
        stream=replace(made, eval_dir=tmp_path / "eval"),
    )
    assert summary.window == 12
    assert summary.splits["train"].num_rows == 12
    assert summary.splits["train"].num_accepted == 11
    assert summary.splits["eval"].num_accepted == 6
    assert summary.num_shared == 1
    assert len(SampleStore(tmp_path / "train")) == 11


@pytest.fixture
def feed_of():
    """Starts feeds, and ends them with the test."""
    feeds = []

    def start(made: Stream) -> Windows:
        feeds.append(WindowFeed.remote(made))
        return Windows(made, feeds[-1])

    yield start
    for feed in feeds:
        ray.kill(feed)


def test_windows_are_written_ahead_and_removed_behind(folder, tmp_path, feed_of):
    made = stream(folder, tmp_path, rows=10)
    windows = feed_of(made)
    assert windows.open(0) == tmp_path
    wait_until(lambda: made.has(1) and made.has(2), timeout_s=60)
    assert not made.window(3).exists()
    shards = windows.open(1)
    assert np.asarray(SampleStore(shards).positions).tolist() == [1 << 40, *_file(2, 0, 9)]
    wait_until(lambda: made.has(3), timeout_s=60)
    windows.release(3)
    wait_until(lambda: not made.window(2).exists(), timeout_s=60)
    assert made.has(3)
    # and one that was removed is written again
    assert len(SampleStore(windows.open(1))) == 10


def _file(number: int, first: int, count: int) -> list[int]:
    return [(number << 40) | index for index in range(first, first + count)]


def test_a_source_that_went_away_is_told_and_read_again_when_it_is_back(folder, tmp_path, feed_of):
    moved = tmp_path / "rows"
    moved.mkdir()
    (moved / "a.jsonl").write_text(lines(50, 20))
    made = stream(folder, tmp_path / "out", rows=10, path=moved)
    windows = feed_of(made)
    (moved / "a.jsonl").rename(moved / "b.jsonl")
    with pytest.raises(DataError, match=r"a\.jsonl"):
        windows.open(1)
    (moved / "b.jsonl").rename(moved / "a.jsonl")
    assert len(SampleStore(windows.open(1))) == 10


def processes_of_feeds() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "WindowFeed" in " ".join(child.cmdline())]


def test_a_feed_that_was_killed_is_started_again(folder, tmp_path, feed_of):
    made = stream(folder, tmp_path, rows=3)
    windows = feed_of(made)
    windows.open(1)
    (process,) = processes_of_feeds()
    process.kill()
    assert said(windows.open(14)) == said(windows.open(1))
    assert process not in processes_of_feeds()
