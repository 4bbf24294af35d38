"""Repairs, lengths and languages of rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_sft.data.quality import Quality, RowCheck
from ray_sft.data.quality.row_check import language_of
from ray_sft.tasks import Rejected

CHECK = RowCheck(Quality())


@pytest.mark.parametrize(
    ("damaged", "whole"),
    [
        ("sch\u00c3\u00b6n", "schön"),
        ("\u00e4\u00bd\u00a0\u00e5\u00a5\u00bd\u00e5\u0090\u0097", "你好吗"),
        ("\ufeffHello", "Hello"),
        ("fish &amp; chips", "fish & chips"),
        ("be\x00fore\x1b[31m", "before"),
        ("e\u0301t\u00e9", "été"),
        ("ＡＢＣ１２３ａ", "ABC123a"),
        ("你好，世界！（好）", "你好，世界！（好）"),
        ("“quoted” – it’s", "“quoted” – it’s"),
        ("line\r\nline", "line\nline"),
        ("plain text, untouched.", "plain text, untouched."),
        ("a < b &", "a < b &"),
    ],
)
def test_what_storage_did_to_a_text_is_mended_and_nothing_else(damaged, whole):
    assert CHECK.repaired(damaged) == whole


@given(st.text())
def test_repairing_twice_changes_nothing_more(text):
    once = CHECK.repaired(text)
    assert CHECK.repaired(once) == once


def test_every_text_of_a_row_is_mended_and_labels_are_not():
    bad, good = "sch\u00c3\u00b6n", "schön"
    row = {
        "text": bad,
        "candidate": bad,
        "positive": bad,
        "negatives": [bad, "x"],
        "history": [bad, "x"],
        "messages": [{"role": "user", "content": bad}, {"role": "assistant", "content": bad}],
        "label": bad,
        "stars": 3,
    }
    assert CHECK(row) == {
        "text": good,
        "candidate": good,
        "positive": good,
        "negatives": [good, "x"],
        "history": [good, "x"],
        "messages": [{"role": "user", "content": good}, {"role": "assistant", "content": good}],
        "label": bad,
        "stars": 3,
    }
    assert RowCheck(Quality(repair=False))(row) == row


def test_a_negative_that_stands_alone_is_a_text():
    assert CHECK({"text": "x", "negatives": "sch\u00c3\u00b6n"})["negatives"] == "schön"


def test_a_word_with_a_tag_never_vanishes():
    row = {"tokens": ["\x00", "sch\u00c3\u00b6n"], "tags": ["O", "B-X"]}
    assert CHECK(row) == {"tokens": ["\x00", "schön"], "tags": ["O", "B-X"]}


def test_values_that_are_no_texts_pass():
    row = {"text": None, "history": [1, None], "messages": ["x", {"role": "user"}], "tokens": 3}
    assert CHECK(row) == row


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ab", "shorter than 3 characters"),
        ("abc", None),
        ("abcdefgh", None),
        ("abcdefghi", "longer than 8 characters"),
    ],
)
def test_lengths(text, reason):
    found = RowCheck(Quality(min_chars=3, max_chars=8))({"text": text})
    assert found == (Rejected(reason) if reason else {"text": text})
    with pytest.raises(ValueError, match="max_chars 2 is below min_chars 3"):
        Quality(min_chars=3, max_chars=2)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where is my card, and when will it arrive?", "en"),
        ("我的银行卡什么时候能寄到？", "zh"),
        ("Bonjour, je ne trouve pas ma carte bancaire", "fr"),
        ("Wann kommt meine neue Karte endlich an?", "de"),
    ],
)
def test_languages_are_told(text, language):
    found, certainty = language_of(text)
    assert found == language
    assert certainty > 0.7


def test_rows_in_other_languages_are_rejected_when_that_is_sure():
    check = RowCheck(Quality(languages=("en", "zh")))
    french = {"text": "Bonjour, je ne trouve pas ma carte bancaire"}
    assert check(french) == Rejected("in another language (fr)")
    for text in ("Where is my card?", "我的卡在哪里", "ok", "$AAPL 172.4", ""):
        assert check({"text": text}) == {"text": text}
