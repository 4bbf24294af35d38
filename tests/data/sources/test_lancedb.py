"""Rows of LanceDB tables."""

from pathlib import Path

import lancedb
import pytest

from ray_sft.core import DataError
from ray_sft.data import iterate_rows
from ray_sft.data.sources import LanceDb

ROWS = [{"id": n, "text": f"text {n}", "vector": [float(n), 1.0]} for n in range(5000)]


@pytest.fixture
def folder(tmp_path):
    lancedb.connect(tmp_path).create_table("notes", ROWS)
    return str(tmp_path)


def test_all_rows_come_once_and_in_order(folder):
    source = LanceDb(path=folder, table="notes")
    assert list(iterate_rows(source)) == ROWS
    assert source.column_names(source.parts()[0]) == ["id", "text", "vector"]


def test_skip_and_take(folder):
    source = LanceDb(path=folder, table="notes", skip=4990, take=3)
    assert [row["id"] for row in iterate_rows(source)] == [4990, 4991, 4992]


def test_a_reader_sees_the_version_that_it_began_with(folder):
    source = LanceDb(path=folder, table="notes")
    before, slices = source.fingerprint(), source.slices()
    lancedb.connect(folder).open_table("notes").add(ROWS[:10])
    assert sum(1 for chosen in slices for _ in source.rows(chosen)) == 5000
    assert sum(1 for _ in iterate_rows(source)) == 5010
    assert source.fingerprint() != before


def test_a_table_that_is_not_there_is_told(folder):
    with pytest.raises(DataError, match=r"cannot read LanceDB table .*nothing'"):
        LanceDb(path=folder, table="nothing").parts()


def test_a_table_whose_files_are_gone_is_told_while_it_is_read(folder):
    source = LanceDb(path=folder, table="notes")
    (chosen,) = source.slices()
    for file in (Path(folder) / "notes.lance" / "data").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"cannot read LanceDB table '.*notes': .*Not found"):
        list(source.rows(chosen))
