"""What a source leaves out and takes, over all of its files."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_sft.data import Jsonl, Parquet, iterate_rows
from ray_sft.data.rows import iterate_positions, position_of
from ray_sft.data.sources import BadRow, Slice


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The rows 0 to 9 in files of 3, 0, 5 and 2 rows; row 4 is bad."""
    folder = tmp_path_factory.mktemp("rows")
    lines = [json.dumps({"n": n}) if n != 4 else "broken" for n in range(10)]
    for name, chosen in (("a", lines[:3]), ("b", []), ("c", lines[3:8]), ("d", lines[8:])):
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in chosen))
    return folder


def taken(source):
    return [row for chosen in source.slices() for _, row in source.rows(chosen)]


@given(skip=st.integers(0, 12), take=st.integers(0, 12))
@settings(deadline=None)
def test_skip_and_take_count_all_rows_of_all_files(folder, skip, take):
    source = Jsonl(path=str(folder), skip=skip, take=take)
    everything = taken(Jsonl(path=str(folder)))
    assert len(everything) == 10
    expected = everything[skip : skip + take] if take else everything[skip:]
    assert taken(source) == expected
    assert list(iterate_rows(source)) == [r for r in expected if not isinstance(r, BadRow)]


def test_a_row_has_the_same_position_however_many_are_taken(folder):
    everything = dict(iterate_positions(Jsonl(path=str(folder))))
    some = dict(iterate_positions(Jsonl(path=str(folder), skip=5, take=4)))
    assert [row["n"] for row in some.values()] == [5, 6, 7, 8]
    assert some.items() <= everything.items()
    assert next(iter(some)) == position_of(2, 2)


def test_a_single_file_is_not_counted_first(folder):
    path = str(folder / "c.jsonl")
    assert Jsonl(path=path, skip=1, take=2).slices() == [Slice(0, path, 1, 3)]
    assert Jsonl(path=path).slices() == [Slice(0, path, 0, None)]


def test_parquet_files_know_their_number_of_rows(tmp_path):
    for name, numbers in (("a", range(3)), ("b", range(3, 6))):
        pq.write_table(pa.table({"n": list(numbers)}), tmp_path / f"{name}.parquet")
    source = Parquet(path=str(tmp_path), skip=2, take=2)
    assert taken(source) == [{"n": 2}, {"n": 3}]
    part = source.parts()[0]
    assert source.count_rows(part, limit=None) == 3
    assert source.count_rows(part, limit=2) == 2


def test_renamed_columns_and_settings_count_in_the_fingerprint(folder):
    source = Jsonl(path=str(folder), columns={"text": "n"}, take=1)
    assert taken(source) == [{"n": 0, "text": 0}]
    assert source.fingerprint() != source.model_copy(update={"take": 2}).fingerprint()
    assert source.fingerprint() != source.model_copy(update={"skip": 1}).fingerprint()
