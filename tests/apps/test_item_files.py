"""Items as people have them."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from apps.item_files import market_sample, read_items

ROOT = Path(__file__).parents[2]
CSV = """id,time,text,topics
b,2025-03-04T10:00:00+02:00,"two, with a comma
and a line",chips; autos
a,2025-03-03T10:00:00,one,
"""
LINES = """{"id": "b", "time": "2025-03-04T08:00:00Z", "text": "two", "topics": ["chips", "autos"]}

{"id": 7, "time": 1741000000, "text": "one", "topic": "chips", "source": "wire", "more": 1}
"""


def test_csv_is_read_in_the_order_of_time():
    read = read_items(CSV)
    assert [item.id for item in read.items] == ["a", "b"]
    assert read.items[0].time == datetime(2025, 3, 3, 10, tzinfo=UTC)  # without an offset: UTC
    assert read.items[1].time == datetime(2025, 3, 4, 8, tzinfo=UTC)
    assert read.items[1].text == "two, with a comma\nand a line"
    assert read.items[1].topics == ["chips", "autos"]
    assert read.items[0].tree() == {"id": "a", "time": "2025-03-03T10:00:00+00:00", "text": "one"}


def test_json_lines_are_read_and_sent_without_what_the_service_does_not_take():
    read = read_items("\ufeff" + LINES)
    assert read.num_left_out == 0
    assert [item.tree() for item in read.items] == [
        {
            "id": "7",
            "time": "2025-03-03T11:06:40+00:00",
            "text": "one",
            "topics": ["chips"],
            "source": "wire",
        },
        {
            "id": "b",
            "time": "2025-03-04T08:00:00+00:00",
            "text": "two",
            "topics": ["chips", "autos"],
        },
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id,time,text\na,2025-03-03T10:00:00Z,\n", "line 2: 'text': Field required"),
        ("id,time,text\na,soon,x\n", "line 2: 'time': Input should be a valid datetime"),
        ('{"id": "a", "time": 0, "text": "x"}\n{"id": "b"', "line 2: Expecting"),
        ('{"id": "a", "time": 0, "text": "x"}\n[1]', "line 2: Input should be"),
        ("just some words\nand more", "line 2: 'id': Field required"),
    ],
)
def test_what_cannot_be_read_is_left_out_with_its_line(text, problem):
    read = read_items(text)
    assert read.num_left_out == 1
    assert read.problems[0].startswith(problem)


def test_many_problems_are_counted_and_a_few_told():
    read = read_items("id,time,text\n" + "a,soon,x\n" * 40)
    assert (read.num_left_out, len(read.problems)) == (40, 3)


def test_nothing_is_nothing():
    assert read_items("  \n").items == ()


def test_the_sample_is_that_of_the_library_without_its_labels():
    rows = []
    for split in ("train", "test"):
        path = ROOT / "ray_sft" / "samples" / f"market_{split}.csv"
        with path.open(encoding="utf-8", newline="") as file:
            rows += [(row["id"], row["text"], [row["topic"]]) for row in csv.DictReader(file)]
    read = market_sample()
    assert read.num_left_out == 0
    assert sorted((item.id, item.text, item.topics) for item in read.items) == sorted(rows)
