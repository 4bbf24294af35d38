"""Files by path and URI: found, decompressed, and never half-read without a word."""

import bz2
import gzip

import fsspec
import pyarrow as pa
import pytest

from ray_sft.core import DataError
from ray_sft.core.storage import find_files, open_file, open_stream

TEXT = "".join(f"line {number} äö 中文\n" for number in range(20_000)).encode()


def compressed(suffix):
    if suffix == "gz":
        return gzip.compress(TEXT)
    if suffix == "bz2":
        return bz2.compress(TEXT)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(
        sink, {"zst": "zstd", "lz4": "lz4", "br": "brotli"}[suffix]
    ) as out:
        out.write(TEXT)
    return sink.getvalue().to_pybytes()


def read(path):
    with open_stream(str(path)) as stream:
        return stream.read()


@pytest.mark.parametrize("suffix", ["gz", "bz2", "zst", "lz4", "br"])
def test_compressed_files_are_read_as_what_was_compressed(tmp_path, suffix):
    path = tmp_path / f"a.txt.{suffix}"
    path.write_bytes(compressed(suffix))
    assert path.stat().st_size < len(TEXT) / 2
    assert read(path) == TEXT


@pytest.mark.parametrize("suffix", ["gz", "bz2", "zst", "lz4", "br"])
def test_a_compressed_file_that_was_cut_off_is_an_error(tmp_path, suffix):
    path = tmp_path / f"a.txt.{suffix}"
    path.write_bytes(compressed(suffix)[:-9])
    with pytest.raises(DataError, match=r"a\.txt\..* cannot be read: .*get it whole"):
        read(path)


def test_a_gzip_file_of_several_members_is_read_to_its_end(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert read(tmp_path / "a.gz") == b"one\ntwo\n"


def test_a_folder_gives_its_files_by_suffix_compressed_or_not_and_hides_the_hidden(tmp_path):
    names = [
        "b.csv",
        "deep/er/a.csv.gz",
        "a.CSV",
        "a.json",
        ".hidden.csv",
        ".git/c.csv",
        "_tmp/d.csv",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = [file.path for file in find_files(str(tmp_path), (".csv",))]
    assert found == [str(tmp_path / name) for name in ("a.CSV", "b.csv", "deep/er/a.csv.gz")]


def test_globs(tmp_path):
    for name in ("2024/a.csv", "2025/a.csv", "2025/b.csv", "2025/b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = [file.path for file in find_files(f"{tmp_path}/*/a.csv", ())]
    assert found == [f"{tmp_path}/2024/a.csv", f"{tmp_path}/2025/a.csv"]
    assert len(find_files(f"{tmp_path}/**/*.csv", ())) == 3


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    (tmp_path / "a[1].csv").write_text("x")
    (tmp_path / "a1.csv").write_text("x")
    assert [f.path for f in find_files(f"{tmp_path}/a[1].csv", ())] == [f"{tmp_path}/a[1].csv"]


def test_a_storage_that_fsspec_knows():
    memory = fsspec.filesystem("memory")
    memory.pipe("/shop/reviews/a.jsonl.gz", gzip.compress(b"{}\n"))
    (found,) = find_files("memory://shop/reviews", (".jsonl",))
    assert read(found.path) == b"{}\n"
    with open_file(found.path) as file:
        file.seek(2)
        assert file.read(1) == b"\x08"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere/x.csv", r"data path 'nowhere/x\.csv' does not exist \(looked from"),
        ("memory://nowhere", "data path 'memory://nowhere' does not exist"),
        ("carrier-pigeon://x", "no storage is known by 'carrier-pigeon://'"),
        ("sftp://127.0.0.1/x", "needs a package that is not installed"),
    ],
)
def test_what_cannot_be_found_is_named(path, message):
    with pytest.raises(DataError, match=message):
        find_files(path, ())


def test_an_absolute_path_is_found_from_a_folder_that_is_gone(tmp_path, monkeypatch):
    """Where Ray runs the entrypoint of a job, the folder may be removed meanwhile."""
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert [file.num_bytes for file in find_files(f"{tmp_path}/a.csv", ())] == [1]
    with pytest.raises(DataError, match=r"b\.csv' does not exist\."):
        find_files(f"{tmp_path}/b.csv", ())


def test_a_version_changes_with_the_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x")
    (before,) = find_files(str(path), ())
    path.write_text("yz")
    (after,) = find_files(str(path), ())
    assert (before.num_bytes, after.num_bytes) == (1, 2)
    assert before.version != after.version
