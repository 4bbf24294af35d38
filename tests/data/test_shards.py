"""Shards and their index: written whole, read at random, and small in memory."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_sft.core import DataError
from ray_sft.data import SampleStore
from ray_sft.data.index import write_index
from ray_sft.data.shards import BATCH_ROWS, LEFT_OUT, row_files, write_shard


def table(positions, *, length=3, reason=""):
    """Encoded rows whose tokens tell where they stand."""
    count = len(positions)
    tokens = [np.full(length + position % 5, position, np.int32) for position in positions]
    return pa.table(
        {
            "position": pa.array(positions, pa.int64()),
            "copy": pa.array([0] * count, pa.int32()),
            "lineage": [""] * count,
            "row_id": [f"r{position}" for position in positions],
            "reason": [reason] * count,
            "unchanged": pa.array([0] * count, pa.int32()),
            "length": pa.array([len(item) for item in tokens], pa.int32()),
            "weight": pa.array([1.0] * count, pa.float32()),
            "left_out": pa.array([0] * count, pa.int64()),
            "truncated": pa.array([0] * count, pa.int32()),
            "content": pa.array(positions, pa.uint64()),
            "labels": pa.array([[]] * count, pa.list_(pa.string())),
            "language": [""] * count,
            "array.input_ids": pa.array(tokens, pa.list_(pa.int32())),
            "scalar.labels": pa.array(positions, pa.int64()),
        }
    )


@given(st.permutations(range(BATCH_ROWS + 40)), st.lists(st.integers(1, 60), max_size=6))
@settings(max_examples=25, deadline=None)
def test_samples_come_in_the_order_of_the_source_however_they_were_written(order, cuts):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ends = sorted({*(cut for cut in cuts), len(order)})
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            write_shard(folder, f"{number:03}", [table(order[start:end])])
        write_index(folder)
        store = SampleStore(folder)
        assert store.positions.tolist() == list(range(len(order)))
        for position, example in enumerate(store.all()):
            assert example.arrays["input_ids"].tolist() == [position] * (3 + position % 5)
            assert example.arrays["labels"] == position
            assert example.length == 3 + position % 5


def test_a_shard_of_several_blocks_is_one(tmp_path):
    empty = table([]).drop_columns(["array.input_ids", "scalar.labels"])
    rejected = table([1], reason="bad").drop_columns(["array.input_ids", "scalar.labels"])
    write_shard(tmp_path, "a", [table([0]), empty, rejected, table([2])])
    assert list(row_files(tmp_path)) == ["a"]
    summary = write_index(tmp_path)
    assert (summary.num_rows, summary.num_accepted, summary.num_rejected) == (3, 2, 1)
    assert [e.arrays["labels"].item() for e in SampleStore(tmp_path).all()] == [0, 2]
    write_shard(tmp_path, "b", [empty])
    assert list(row_files(tmp_path)) == ["a"]


def test_a_task_that_runs_again_leaves_its_shard_once(tmp_path):
    for _ in range(2):
        write_shard(tmp_path, "a", [table([0, 1])])
    write_index(tmp_path)
    assert len(SampleStore(tmp_path)) == 2


def test_a_draft_is_not_taken_for_a_shard(tmp_path):
    write_shard(tmp_path, "a", [table([0, 1])])
    (tmp_path / ".b.rows.parquet").write_bytes(b"half")
    (tmp_path / "b.arrow").write_bytes(b"half")
    write_index(tmp_path)
    assert len(SampleStore(tmp_path)) == 2


def test_a_stage_that_did_not_finish_is_not_read(tmp_path):
    write_shard(tmp_path, "a", [table([0])])
    with pytest.raises(DataError, match="holds no finished data stage"):
        SampleStore(tmp_path)
    write_index(tmp_path)
    (tmp_path / "index" / "facts.json").unlink()
    with pytest.raises(DataError, match="holds no finished data stage"):
        SampleStore(tmp_path)


def test_an_index_that_finds_no_room_is_not_read(tmp_path):
    write_shard(tmp_path, "a", [table([0, 1])])
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "place.npy").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"cannot write to .* Make room there"):
        write_index(tmp_path)
    with pytest.raises(DataError, match="holds no finished data stage"):
        SampleStore(tmp_path)


def test_rows_that_are_left_out_are_counted_and_no_samples(tmp_path):
    marker = table([7], reason="").set_column(1, "copy", pa.array([LEFT_OUT], pa.int32()))
    marker = marker.set_column(
        marker.column_names.index("left_out"), "left_out", pa.array([5], pa.int64())
    )
    write_shard(tmp_path, "a", [table([0]), marker])
    summary = write_index(tmp_path)
    assert (summary.num_rows, summary.num_left_out) == (1, 5)
    assert len(SampleStore(tmp_path)) == 1


def test_nothing_usable_says_why(tmp_path):
    with pytest.raises(DataError, match="no rows"):
        write_index(tmp_path)
    write_shard(tmp_path, "a", [table([0, 1], reason="too bad")])
    with pytest.raises(DataError, match=r"none of the 2 rows can be used.*\(2 rows\): too bad"):
        write_index(tmp_path)


def test_a_store_holds_no_file_and_no_sample_that_it_was_not_asked_for(tmp_path):
    write_shard(tmp_path, "a", [table(list(range(500)), length=2000)])
    write_index(tmp_path)
    before = pa.total_allocated_bytes()
    store = SampleStore(tmp_path)
    assert pa.total_allocated_bytes() - before < 100_000
    examples = store.examples([3])
    assert len(examples[0].arrays["input_ids"]) == 2003
    assert pa.total_allocated_bytes() - before < 2 * BATCH_ROWS * 2005 * 4
    assert json.loads((tmp_path / "index" / "facts.json").read_text())["shards"] == ["a"]
