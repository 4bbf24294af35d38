"""A file that is being written is never taken for one."""

import pytest

from ray_sft.core.whole_files import whole_file, write_whole


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
