import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_sft.data.augment.segments import RUNS, is_chinese, is_han, pieces_of, words_of

LEXICON = words_of(["银行", "银行卡"])


@given(st.text())
@pytest.mark.parametrize("pattern", [RUNS, LEXICON], ids=["runs", "lexicon"])
def test_words_and_gaps_joined_are_the_text(pattern, text):
    pieces = pieces_of(text, pattern)
    words, gaps = pieces[1::2], pieces[0::2]
    assert len(gaps) == len(words) + 1
    assert "".join(a + b for a, b in zip(gaps, [*words, ""], strict=True)) == text
    assert all(words)


@given(st.text("aZ_9 '-@#$:/.w+h\n"))
def test_the_faster_pattern_of_ascii_finds_the_same(text):
    assert pieces_of(text, RUNS) == RUNS.split(text)


@pytest.mark.parametrize(
    ("text", "runs", "by_lexicon"),
    [
        ("don't re-send", ["don't", "re-send"], ["don't", "re-send"]),
        ("我的银行卡,OK", ["我的银行卡", "OK"], ["我", "的", "银行卡", "OK"]),
        ("see http://a.b/c?d=1，好", ["see", "http://a.b/c?d=1", "好"], None),
        ("mail a.b@c.de or @you #tag $T", ["mail", "a.b@c.de", "or", "@you", "#tag", "$T"], None),
    ],
)
def test_words_are_runs_or_those_of_a_lexicon(text, runs, by_lexicon):
    assert pieces_of(text, RUNS)[1::2] == runs
    assert pieces_of(text, LEXICON)[1::2] == (by_lexicon or runs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("12 !", False),
        ("hello", False),
        ("好", True),
        ("我的iPhone屏幕坏了", True),
        ("Contact 王伟 about the order", False),
    ],
)
def test_a_text_is_chinese_by_its_characters_against_its_words(text, expected):
    assert is_chinese(text) is expected


def test_han_is_chinese_throughout():
    assert is_han("银行𠀀")
    assert not is_han("")
    assert not is_han("银行A")
    assert not is_han("，")
