from pathlib import Path

import pytest

from ray_sft.data import Conll
from ray_sft.data.sources import BadRow

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def read(tmp_path, text, **fields):
    path = tmp_path / "a.conll"
    path.write_bytes(text.encode())
    return list(Conll(path=str(path), **fields).read(str(path)))


def row(tokens, tags):
    return {"tokens": tokens.split(), "tags": tags.split()}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("blank", ["", "\t", "  "])
def test_a_blank_line_ends_a_sentence(tmp_path, end, blank):
    lines = ["", "In\tO", "Rome\tB-LOC", blank, blank, "Ann\tB-PER", blank]
    rows = read(tmp_path, end.join(lines))
    assert rows == [row("In Rome", "O B-LOC"), row("Ann", "B-PER")]


def test_fields_are_apart_by_tabs_or_blanks_as_the_first_line_has_them(tmp_path):
    assert read(tmp_path, "New York\tB-LOC\n") == [{"tokens": ["New York"], "tags": ["B-LOC"]}]
    assert read(tmp_path, "In  NNP\tO\nRome NNP B-LOC\n") == [
        BadRow("line 2 has 1 fields where the file has 2")
    ]
    assert read(tmp_path, "In  X O\nRome\tX B-LOC\n", delimiter="space") == [
        row("In Rome", "O B-LOC")
    ]
    assert read(tmp_path, "a\u00a0b O\n") == [{"tokens": ["a\u00a0b"], "tags": ["O"]}]


def test_columns_can_be_named_from_both_ends(tmp_path):
    text = "0 In IN O\n1 Rome NNP B-LOC\n"
    assert read(tmp_path, text, token_column=1) == [row("In Rome", "O B-LOC")]
    assert read(tmp_path, text, token_column=-3, tag_column=2) == [row("In Rome", "IN NNP")]
    with pytest.raises(ValueError, match="token_column and tag_column are both 1"):
        Conll(path="a.conll", token_column=1, tag_column=1)


def test_document_lines_are_no_sentence(tmp_path):
    text = "-DOCSTART- -X- O O\n\nIn IN - O\n-DOCSTART- -X- O O\nRome NNP - I-LOC\n"
    assert read(tmp_path, text) == [row("In", "O"), row("Rome", "I-LOC")]


def test_a_sentence_with_a_broken_line_is_bad_and_the_others_stay(tmp_path):
    text = "In O\n\nthe\nrain O\n\nof Rome O\n\nAnn B-PER\n"
    assert read(tmp_path, text) == [
        row("In", "O"),
        BadRow("line 3 has 1 fields where the file has 2"),
        BadRow("line 6 has 3 fields where the file has 2"),
        row("Ann", "B-PER"),
    ]
    assert read(tmp_path, "the\n\nIn O\n") == [
        BadRow("line 1 has 1 fields where a token and a tag are needed"),
        row("In", "O"),
    ]
    assert read(tmp_path, "In\t\n\n\tO\n\nRome\tO\n")[:2] == [
        BadRow("line 1 has an empty tag"),
        BadRow("line 3 has an empty token"),
    ]


def test_a_folder_is_read_by_suffix(tmp_path):
    for name in ("b.bio", "a.tsv", "c.iob", "d.txt", "e.conll", "f.md"):
        (tmp_path / name).write_text(f"{name}\tO\n")
    source = Conll(path=str(tmp_path))
    rows = [r["tokens"][0] for part in source.parts() for r in source.read(part)]
    assert rows == ["a.tsv", "b.bio", "c.iob", "d.txt", "e.conll"]
    assert source.column_names(source.parts()[0]) == ["tokens", "tags"]


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not beside the checkout")
@pytest.mark.parametrize(
    ("path", "num_sentences", "num_tokens"),
    [
        ("wnut17/train.conll", 3394, 62730),
        ("wnut17/dev.conll", 1009, 15733),
        ("wnut17/test.conll", 1287, 23394),
        ("wikigold/CONLL-format/data", 1696, 39007),
        ("sec_filings/CONLL-format/data/train", 1164, 41010),
        ("sec_filings/CONLL-format/data/test", 303, 13246),
        ("bc5cdr/train.tsv", 4560, 118170),
        ("bc5cdr/devel.tsv", 4581, 117453),
        ("bc5cdr/test.tsv", 4797, 124750),
    ],
)
def test_published_files_are_read_as_they_are(path, num_sentences, num_tokens):
    """Sentences as their publishers count them; tokens as lines that are neither blank nor
    ``-DOCSTART-``, counted with grep."""
    source = Conll(path=str(DATA / path))
    (part,) = source.parts()
    rows = list(source.read(part))
    assert not [row for row in rows if isinstance(row, BadRow)]
    assert len(rows) == num_sentences
    assert sum(len(row["tokens"]) for row in rows) == num_tokens
    assert {name[:2] for row in rows for name in row["tags"]} <= {"O", "B-", "I-"}
