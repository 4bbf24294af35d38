"""Which rows a recipe wants: by an expression, and by a stable share."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_sft.data import Csv, Jsonl, iterate_rows
from ray_sft.data.sources import BadRow, LeftOut, Portion
from ray_sft.data.sources.selection import Where

ROW = {"text": "hello there", "label": "greet", "lang": "EN", "stars": "4", "none": None}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("", True),
        ("label == 'greet' and len(text) > 5", True),
        ("number(stars) >= 5", False),
        ("lang.lower() in ('en', 'zh')", True),
        ("matches(text, '^h.*e$') and not matches(text, 'x')", True),
        ("none is None or False", True),
        ("text in ['a', 'b']", False),
        ("'there' in text", True),
    ],
)
def test_an_expression_is_answered(expression, expected):
    assert Where(expression)(ROW) is expected


@pytest.mark.parametrize("expression", ["len(", "a = 3", "import os", "'"])
def test_an_expression_that_cannot_be_read_is_refused_at_once(expression):
    with pytest.raises(ValueError, match="cannot be read"):
        Csv(path="x.csv", where=expression)


@pytest.mark.parametrize(
    "expression",
    [
        "stars > 3",
        "missing == 1",
        "none.lower() == 'x'",
        "number(text) > 1",
        "open('/etc/passwd')",
        "text.__class__.__mro__",
        "(lambda: 1)()",
        "'x' * 10 ** 9",
        "9 ** 9 ** 9",
        "'{0.__class__}'.format(text)",
        "matches(text, 'a' * 300)",
    ],
)
def test_what_has_no_answer_or_is_forbidden_says_so(expression):
    with pytest.raises(ValueError, match="where '"):
        Where(expression)(ROW)


def test_a_row_without_an_answer_is_bad_and_an_unwanted_one_left_out(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"n": 1}, {"n": "many"}, {"n": 5}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Jsonl(path=str(path), where="n > 3", columns={"text": "n"})
    (chosen,) = source.slices()
    (_, small), (_, text), (_, large) = source.rows(chosen)
    assert isinstance(small, LeftOut)
    assert isinstance(text, BadRow)
    assert large == {"n": 5, "text": 5}
    assert list(iterate_rows(source)) == [{"n": 5, "text": 5}]


def rows(count):
    return [{"id": f"row-{number}", "n": number} for number in range(count)]


@given(st.floats(0.05, 0.95), st.text(max_size=5))
def test_two_portions_divide_the_rows_without_overlap(cut, salt):
    first = Portion(by=("id",), stop=cut, salt=salt)
    second = Portion(by=("id",), start=cut, salt=salt)
    assert all(first.has(row) != second.has(row) for row in rows(200))


def test_a_portion_is_as_large_as_it_says_and_stays_when_rows_are_added():
    portion = Portion(by=("id",), stop=0.8)
    kept = [row["id"] for row in rows(5000) if portion.has(row)]
    assert abs(len(kept) / 5000 - 0.8) < 0.02
    assert kept == [row["id"] for row in rows(9000) if portion.has(row)][: len(kept)]


def test_rows_with_the_same_value_come_to_the_same_side():
    portion = Portion(by=("customer",), stop=0.5)
    sides = {
        customer: {portion.has({"customer": customer, "n": n}) for n in range(20)}
        for customer in range(50)
    }
    assert all(len(side) == 1 for side in sides.values())
    assert {True} in sides.values()
    assert {False} in sides.values()


def test_a_row_without_an_id_is_bad_and_not_put_on_a_side():
    with pytest.raises(ValueError, match="has no value in id"):
        Portion(by=("id",)).has({"text": "x"})
    with pytest.raises(ValueError, match="portion is empty"):
        Portion(by=("id",), start=0.5, stop=0.5)


def test_a_portion_is_told_by_a_hash_that_no_process_changes():
    """The share of a row may not change with Python's hash seed or a version of ours."""
    assert [row["n"] for row in rows(12) if Portion(by=("id",), stop=0.5).has(row)] == EXPECTED


EXPECTED = [0, 2, 3, 4, 5, 7, 8]
