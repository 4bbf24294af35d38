"""Lines that are too long, passages of books, and compressed text."""

import gzip
import json

import pytest

from ray_sft.core import DataError
from ray_sft.data import Conll, Csv, Jsonl, Text
from ray_sft.data.sources import BadRow

LONG = "x" * 5000


def read(source):
    return [row for part in source.parts() for row in source.read(part)]


@pytest.mark.parametrize(
    ("source", "before", "long", "after", "expected"),
    [
        (Jsonl, '{"n": 1}\n', json.dumps({"t": LONG}) + "\n", '{"n": 2}\n', [{"n": 1}, {"n": 2}]),
        (Csv, "text\na\n", LONG + "\n", "b\n", [{"text": "a"}, {"text": "b"}]),
        (Text, "a\n\n", LONG + "\n\n", "b\n", [{"text": "a"}, {"text": "b"}]),
        (
            Conll,
            "a\tO\n\n",
            f"b\tO\n{LONG}\tO\n\n",
            "c\tO\n",
            [{"tokens": ["a"], "tags": ["O"]}, {"tokens": ["c"], "tags": ["O"]}],
        ),
    ],
)
def test_a_line_that_is_too_long_is_bad_and_the_others_stay(
    tmp_path, source, before, long, after, expected
):
    path = tmp_path / "a.txt"
    path.write_text(before + long + after)
    first, bad, last = read(source(path=str(path), max_line=1000))
    assert [first, last] == expected
    assert isinstance(bad, BadRow)
    assert "where max_line allows 1000" in bad
    assert "50" in bad


def test_a_line_of_just_the_longest_length_is_read(tmp_path):
    for ending in ("", "\n"):
        text = "y" * (1000 - len(ending))
        (tmp_path / "a.txt").write_text(text + ending)
        assert read(Text(path=str(tmp_path / "a.txt"), max_line=1000)) == [{"text": text}]


def test_a_quotation_mark_that_is_never_closed_does_not_read_on_for_ever(tmp_path):
    (tmp_path / "a.csv").write_text('text,n\n"open,1\n' + "row,2\n" * 1000)
    with pytest.raises(DataError, match="quoting is broken in the row that begins in line 2"):
        read(Csv(path=str(tmp_path / "a.csv"), max_line=1000))


def test_a_long_quoted_field_within_the_limit_is_read(tmp_path):
    (tmp_path / "a.csv").write_text(f'text,n\n"{"z" * 200_000}",1\n')
    assert len(read(Csv(path=str(tmp_path / "a.csv")))[0]["text"]) == 200_000


def test_nul_bytes_do_not_end_a_row(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text,n\nbe\x00fore,1\nafter,2\n")
    assert read(Csv(path=str(tmp_path / "a.csv"))) == [
        {"text": "be\x00fore", "n": "1"},
        {"text": "after", "n": "2"},
    ]


def test_compressed_files_give_the_same_rows(tmp_path):
    for name, text in (("a.jsonl", '{"n": 1}\n'), ("b.csv", "n\n1\n"), ("c.md", "one\n\ntwo\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / "packed").mkdir(exist_ok=True)
        (tmp_path / "packed" / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    for kind, name in ((Jsonl, "a.jsonl"), (Csv, "b.csv"), (Text, "c.md")):
        plain = read(kind(path=str(tmp_path / name)))
        assert plain
        assert read(kind(path=str(tmp_path / "packed"))) == plain


def test_a_second_file_without_a_named_column_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.csv").write_text("query,tag\nhi,x\n")
    (tmp_path / "b.csv").write_text("question,tag\nhi,x\n")
    source = Csv(path=str(tmp_path), columns={"text": "query"})
    first, second = source.slices()
    assert list(source.rows(first)) == [(0, {"query": "hi", "tag": "x", "text": "hi"})]
    with pytest.raises(DataError, match=r"b\.csv' has no column 'query' \(it has: question, tag\)"):
        list(source.rows(second))


def test_json_objects_may_differ_from_the_first_one(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two", "tag": "x"}\n')
    source = Jsonl(path=str(tmp_path), columns={"label": "tag"})
    (chosen,) = source.slices()
    assert [row["label"] for _, row in source.rows(chosen)] == [None, "x"]


BOOK = (
    "# One\n\nIt was night. The rain fell!  Was it late? It was.\n\n"
    "A short one.\n\n" + "word " * 60 + "\n\n天黑了。雨还在下！几点了？没有人知道。\n"
)


def test_passages_hold_paragraphs_and_take_long_ones_apart(tmp_path):
    (tmp_path / "book.md").write_text(BOOK, encoding="utf-8")
    found = [
        row["text"] for row in read(Text(path=str(tmp_path), unit="passage", passage_chars=100))
    ]
    assert all(len(text) <= 100 for text in found)
    assert "".join("".join(found).split()) == "".join(BOOK.split())
    assert found[0] == "# One\n\nIt was night. The rain fell!  Was it late? It was.\n\nA short one."
    assert not any(text.startswith("ord") for text in found)


def test_a_long_paragraph_is_cut_at_sentences_in_both_languages(tmp_path):
    english = " ".join(f"This is sentence number {number}." for number in range(20))
    chinese = "".join(f"这是第{number}句话。" for number in range(60))
    (tmp_path / "a.txt").write_text(f"{english}\n\n{chinese}", encoding="utf-8")
    found = [
        row["text"] for row in read(Text(path=str(tmp_path), unit="passage", passage_chars=150))
    ]
    assert all(text.endswith((".", "。")) for text in found)
    assert all(len(text) > 75 for text in found[:-1])


def test_text_without_blanks_or_sentences_is_cut_hard(tmp_path):
    (tmp_path / "a.txt").write_text("z" * 950)
    found = [
        row["text"] for row in read(Text(path=str(tmp_path), unit="passage", passage_chars=100))
    ]
    assert [len(text) for text in found] == [100] * 9 + [50]
