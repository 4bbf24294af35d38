"""A file that is being written is never taken for one."""

import re
from pathlib import Path

import pytest

from ray_sft.core import DataError
from ray_sft.core.whole_files import whole_file, write_whole, writing_to


def write_half(path):
    with whole_file(path) as draft:
        draft.write_text("half")
        assert path.read_text() == "former"
        raise OSError("the disk is full")


def test_a_block_that_fails_leaves_the_former_file_and_no_draft(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_whole(path, "former")
    with pytest.raises(OSError, match="full"):
        write_half(path)
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    assert path.read_text() == "former"


def test_the_new_file_takes_the_place_of_the_former(tmp_path):
    write_whole(tmp_path / "a.txt", "former")
    write_whole(tmp_path / "a.txt", "größer")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "größer"


def write_to_a_full_disk(folder):
    with writing_to(folder), Path("/dev/full").open("w") as file:
        file.write("x")


def test_a_full_disk_is_told_with_what_to_do(tmp_path):
    with pytest.raises(DataError, match=r"cannot write to '.*': No space left on device") as told:
        write_to_a_full_disk(tmp_path / "not" / "yet" / "there")
    assert re.search(r"\(\d+\.\d MiB are free\)\. Make room there", str(told.value))
