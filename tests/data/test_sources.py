import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_sft.core import DataError
from ray_sft.data import Csv, Hub, Jsonl, Parquet, Text, check_columns
from ray_sft.data.sources import BadRow
from ray_sft.tasks import SequenceClassification

ROWS = [{"text": "où est, ma carte", "label": "card"}, {"text": '说 "好"', "label": "ok"}]


def read(source):
    return [row for part in source.parts() for row in source.read(part)]


def write_csv(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return str(path)


@pytest.fixture
def same_rows(tmp_path):
    """The same two rows in every format."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    write_csv(tmp_path / "a.csv", 'text,label\n"où est, ma carte",card\n"说 ""好""",ok\n')
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    return tmp_path


@pytest.mark.parametrize(("kind", "suffix"), [(Csv, "csv"), (Jsonl, "jsonl"), (Parquet, "parquet")])
@pytest.mark.parametrize("form", ["{0}/a.{1}", "{0}/*.{1}", "{0}"])
def test_a_file_a_glob_and_a_folder_give_the_same_rows(same_rows, kind, suffix, form):
    assert read(kind(path=form.format(same_rows, suffix))) == ROWS


def test_text_units(tmp_path):
    (tmp_path / "b.md").write_text("# One\nline\n\n\nTwo\n", encoding="utf-8")
    path = str(tmp_path)
    assert [r["text"] for r in read(Text(path=path))] == ["# One\nline", "Two"]
    assert [r["text"] for r in read(Text(path=path, unit="line"))] == ["# One", "line", "Two"]
    assert len(read(Text(path=path, unit="file"))) == 1


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = write_csv(tmp_path / "a.csv", "text,label\nhi,x\n", "utf-8-sig")
    assert read(Csv(path=path)) == [{"text": "hi", "label": "x"}]


def test_a_row_with_another_number_of_fields_is_bad_and_the_others_stay(tmp_path):
    path = write_csv(tmp_path / "a.csv", "text,label\nhi,x\nonly one\nho,y\n")
    rows = read(Csv(path=path))
    assert rows[1] == BadRow("1 fields where the header has 2")
    assert [rows[0]["text"], rows[2]["text"]] == ["hi", "ho"]


def test_a_line_that_is_no_json_object_is_bad(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "hi"}\n{oops\n[1]\n', encoding="utf-8")
    good, broken, array = read(Jsonl(path=str(tmp_path / "a.jsonl")))
    assert good == {"text": "hi"}
    assert isinstance(broken, BadRow)
    assert isinstance(array, BadRow)


def test_a_csv_file_without_a_header_line_gets_its_names_from_the_recipe(tmp_path):
    path = write_csv(tmp_path / "a.csv", "1,31,2.5\n2,40\n7,52,4.0\n")
    source = Csv(path=path, header=("user", "item", "rating"), columns={"label": "rating"})
    assert source.column_names(path) == ["user", "item", "rating"]
    assert read(source) == [
        {"user": "1", "item": "31", "rating": "2.5"},
        BadRow("2 fields where the header has 3"),
        {"user": "7", "item": "52", "rating": "4.0"},
    ]
    with pytest.raises(ValueError, match="header names column 'user' twice"):
        Csv(path=path, header=("user", "user"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (
            b'text,label\n"never closed,x\nhi,y\n',
            "quoting is broken in the row that begins in line 2",
        ),
        ("text,label\nné,x\n".encode("latin-1"), "is not utf-8: byte 0xe9"),
        (b"text,text\na,b\n", "names column 'text' twice"),
    ],
)
def test_a_broken_csv_file_says_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(Csv(path=str(path)))


def test_another_encoding_can_be_named(tmp_path):
    path = write_csv(tmp_path / "a.csv", "text,label\n你好,x\n", "gb18030")
    assert read(Csv(path=path, encoding="gb18030"))[0]["text"] == "你好"
    with pytest.raises(DataError, match="encoding 'nonsense' is not known"):
        read(Csv(path=path, encoding="nonsense"))


def test_missing_paths_name_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv' does not exist"):
        Csv(path="nowhere.csv").parts()
    with pytest.raises(DataError, match=r"holds no file that ends in \.csv"):
        Csv(path=str(tmp_path)).parts()


def test_a_file_that_is_no_parquet_says_so(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(DataError, match="is no whole Parquet file"):
        read(Parquet(path=str(tmp_path / "a.parquet")))


def test_embedded_samples_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = Csv(path="embedded/samples/support_train.csv")
    assert len(read(source)) > 1000


def test_columns_are_mapped_and_missing_ones_named(tmp_path):
    path = write_csv(tmp_path / "a.csv", "query,tag\nhi,x\n")
    task = SequenceClassification(labels=("x", "y"))
    good = Csv(path=path, columns={"text": "query", "label": "tag"})
    check_columns("train", good, task)
    assert good.rename(read(good)[0])["label"] == "x"
    with pytest.raises(DataError, match=r"has no column 'label' \(it has: query, tag\)"):
        check_columns("train", Csv(path=path, columns={"text": "query"}), task)
    with pytest.raises(DataError, match=r"has no column 'nope' \(it has: query, tag\)"):
        check_columns("train", Csv(path=path, columns={"label": "nope"}), task)
    with pytest.raises(DataError, match="maps column 'color', which SequenceClassification"):
        check_columns("train", Csv(path=path, columns={"color": "tag"}), task)


def test_the_fingerprint_follows_content_and_settings_not_the_name(tmp_path):
    one = Csv(path=write_csv(tmp_path / "a.csv", "text\nhi\n"))
    same = Csv(path=write_csv(tmp_path / "b.csv", "text\nhi\n"))
    other = Csv(path=write_csv(tmp_path / "c.csv", "text\nho\n"))
    assert one.fingerprint() == same.fingerprint()
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() != one.model_copy(update={"delimiter": ";"}).fingerprint()


def test_a_hub_data_set_that_cannot_be_reached_is_a_clear_error(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="cannot read hub data set 'nobody/nothing'"):
        read(Hub(path="nobody/nothing"))
