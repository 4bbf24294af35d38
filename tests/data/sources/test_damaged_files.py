"""Files that are cut off, mixed up or full of rubbish: a clear error, or bad rows among others."""

import gzip
import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_sft.core import DataError
from ray_sft.data import Conll, Csv, Jsonl, Parquet, Text
from ray_sft.data.sources import BadRow

MIB = 1 << 20
LATIN = "caf\xe9".encode("latin-1")
NOT_UTF8 = BadRow("byte 0xe9 is not utf-8, unlike the lines before")


def read(source):
    return [row for part in source.parts() for row in source.read(part)]


def as_lines(kind, texts):
    """Rows that say some texts, as a file of a kind has them."""
    if kind is Csv:
        return b"text\n" + b"".join(b'"%b"\n' % text for text in texts)
    form = {Jsonl: b'{"text": "%b"}\n', Text: b"%b\n\n", Conll: b"%b\tO\n\n"}[kind]
    return b"".join(form % text for text in texts)


def said(row):
    if isinstance(row, BadRow):
        return row
    return row["text"] if "text" in row else " ".join(row["tokens"])


KINDS = pytest.mark.parametrize("kind", [Csv, Jsonl, Text, Conll])


@KINDS
def test_lines_in_another_encoding_are_bad_among_lines_that_are_utf8(tmp_path, kind):
    path = tmp_path / "a.txt"
    texts = [b"plain", "naïve".encode(), LATIN, b"plain", LATIN, "好".encode()]
    path.write_bytes(as_lines(kind, texts))
    rows = read(kind(path=str(path)))
    assert [said(row) for row in rows] == ["plain", "naïve", NOT_UTF8, "plain", NOT_UTF8, "好"]


@KINDS
def test_a_file_in_another_encoding_is_an_error_that_names_the_line(tmp_path, kind):
    path = tmp_path / "a.txt"
    path.write_bytes(as_lines(kind, [b"plain"] * 3 + [LATIN] * 3))
    with pytest.raises(DataError, match=r"is not utf-8: byte 0xe9 in line \d+ .*: gb18030"):
        read(kind(path=str(path)))
    assert said(read(kind(path=str(path), encoding="latin-1"))[-1]) == "café"


def test_a_row_of_several_lines_is_bad_as_a_whole(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,n\n"na\xc3\xafve",1\n"one\n' + LATIN + b'\n""three""",2\nlast,3\n')
    rows = read(Csv(path=str(path)))
    assert rows == [{"text": "naïve", "n": "1"}, NOT_UTF8, {"text": "last", "n": "3"}]


def test_a_header_in_another_encoding_is_an_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(LATIN + b",n\nx,1\n")
    with pytest.raises(DataError, match="is not utf-8: byte 0xe9 in line 1"):
        Csv(path=str(path)).column_names(str(path))


@KINDS
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.01])
def test_a_gzip_file_that_was_cut_off_is_no_shorter_file(tmp_path, kind, kept):
    texts = [f"row {number * 7919 % 10_007}".encode() for number in range(5000)]
    packed = gzip.compress(as_lines(kind, texts))
    path = tmp_path / "a.txt.gz"
    path.write_bytes(packed)
    assert len(read(kind(path=str(path)))) == 5000
    path.write_bytes(packed[: int(len(packed) * kept)])
    with pytest.raises(DataError, match=r"a\.txt\.gz' cannot be read: .*get it whole"):
        read(kind(path=str(path)))


@KINDS
def test_a_damaged_gzip_file_is_an_error(tmp_path, kind):
    packed = bytearray(gzip.compress(as_lines(kind, [b"%d" % n for n in range(5000)])))
    packed[len(packed) // 2] ^= 0xFF
    path = tmp_path / "a.txt.gz"
    path.write_bytes(packed)
    with pytest.raises(DataError, match=r"a\.txt\.gz' cannot be read"):
        read(kind(path=str(path)))


@KINDS
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_line_of_50_mb_is_bad_and_is_never_held(tmp_path, kind, is_packed):
    content = as_lines(kind, [b"before", b"x" * 50 * MIB, b"after"])
    path = tmp_path / ("a.txt.gz" if is_packed else "a.txt")
    path.write_bytes(gzip.compress(content, 1) if is_packed else content)
    del content
    tracemalloc.start()
    before, bad, after = read(kind(path=str(path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (said(before), said(after)) == ("before", "after")
    assert isinstance(bad, BadRow)
    assert bad.endswith("characters, where max_line allows 4000000")
    assert peak < 25 * MIB


def test_a_csv_file_of_one_endless_line_has_no_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"x" * 10 * MIB)
    with pytest.raises(DataError, match=r"header line of data file .* where max_line allows"):
        read(Csv(path=str(path)))


@KINDS
def test_nul_bytes_spoil_no_other_row(tmp_path, kind):
    path = tmp_path / "a.txt"
    path.write_bytes(as_lines(kind, [b"before", b"nu\x00l", b"after"]))
    before, with_nul, after = read(kind(path=str(path)))
    assert (said(before), said(after)) == ("before", "after")
    if kind is Jsonl:
        assert "Invalid control character" in with_nul, "JSON wants it escaped"
    else:
        assert said(with_nul) == "nu\x00l"


def test_rows_with_more_and_fewer_fields_than_the_header_are_bad(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,x\nb\nc,x,y\n\n,,\nd,x\n")
    assert read(Csv(path=str(path))) == [
        {"text": "a", "label": "x"},
        BadRow("1 fields where the header has 2"),
        BadRow("3 fields where the header has 2"),
        BadRow("3 fields where the header has 2"),
        {"text": "d", "label": "x"},
    ]


def test_parquet_files_with_other_columns_are_read_or_named(tmp_path):
    pq.write_table(pa.table({"said": ["a"], "n": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"text": [7], "n": ["x"]}), tmp_path / "2.parquet")
    assert read(Parquet(path=str(tmp_path))) == [{"said": "a", "n": 1}, {"text": 7, "n": "x"}]
    source = Parquet(path=str(tmp_path), columns={"text": "said"})
    first, second = source.slices()
    assert next(source.rows(first)) == (0, {"said": "a", "n": 1, "text": "a"})
    with pytest.raises(DataError, match=r"2\.parquet' has no column 'said' \(it has: text, n\)"):
        list(source.rows(second))


@pytest.mark.parametrize("place", [0.3, 0.6])
def test_a_parquet_file_that_is_damaged_inside_is_an_error(tmp_path, place):
    path = tmp_path / "a.parquet"
    texts = [json.dumps(number * 7919 % 10_007) for number in range(20_000)]
    table = pa.table({"text": texts})
    pq.write_table(table, path, compression="gzip", use_dictionary=False)
    content = bytearray(path.read_bytes())
    middle = int(len(content) * place)
    content[middle : middle + 1000] = b"\xff" * 1000
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet' is no whole Parquet file"):
        read(Parquet(path=str(path)))
