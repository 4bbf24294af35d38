import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_sft.data.augment import Draws, SurfaceNoise


def edits(text, num=60, **fields):
    fields = {"case_rate": 0, "punctuation_rate": 0} | fields
    return {SurfaceNoise(**fields).edit(text, Draws(seed)) for seed in range(num)}


def test_the_whole_text_is_recased():
    text = "my iPhone: see https://t.co/aB, @Bob"
    assert edits(text, case_rate=1) == {
        "my iphone: see https://t.co/aB, @Bob",
        "MY IPHONE: SEE https://t.co/aB, @Bob",
        "My IPhone: See https://t.co/aB, @Bob",
    }


def test_a_casing_that_changes_nothing_is_not_chosen():
    assert edits("all small", case_rate=1, casings=("lower", "upper")) == {"ALL SMALL"}
    assert edits("all small", case_rate=1, casings=("lower",)) == {"all small"}
    assert edits("全部", case_rate=1) == {"全部"}


def test_a_mark_is_missing_doubled_or_unspaced():
    assert edits("Yes, we do", punctuation_rate=1) == {
        "Yes we do",
        "Yes,, we do",
        "Yes,we do",
    }


def test_a_chinese_mark_is_missing_doubled_or_of_the_other_width():
    assert edits("好，走", punctuation_rate=1) == {"好走", "好，，走", "好,走"}
    assert edits("好.", punctuation_rate=1) == {"好", "好..", "好。"}
    assert edits("好、走", punctuation_rate=1) == {"好走", "好、、走"}


@pytest.mark.parametrize(
    "text", ["3.5 at 10:30", "fun :) ;-)", "www.a.com/b.c?d", "a.b@c.de", "$A.B", "?!", "e.g.x"]
)
def test_marks_within_numbers_addresses_and_emoticons_stay(text):
    assert edits(text, punctuation_rate=1) == {text}


@given(st.text(alphabet="aBZé1 \n,.!?:;，。！、()'\"好我#@/"), st.integers(0, 10**6))
@settings(max_examples=300, deadline=None)
def test_letters_digits_and_lines_stay_and_nothing_trails(text, seed):
    operation = SurfaceNoise(case_rate=0.5, punctuation_rate=0.8)
    changed = operation.edit(text, Draws(seed))

    def core(string):
        return [c.lower() for c in string if c not in " ,.!?:;，。！？；：、"]

    assert core(changed) == core(text)
    assert len(changed) - len(changed.rstrip(" ")) <= len(text) - len(text.rstrip(" "))


def test_tokens_are_recased_and_marks_of_their_own_change():
    row = {"tokens": ["In", "Rome", ",", "yes", "!"], "tags": ["O", "B-LOC", "O", "O", "O"]}
    shouted = SurfaceNoise(case_rate=1, casings=("upper",), punctuation_rate=0)
    assert shouted(row, Draws(0))["tokens"] == ["IN", "ROME", ",", "YES", "!"]
    noise = SurfaceNoise(case_rate=0, punctuation_rate=1)
    found = [noise(row, Draws(seed)) for seed in range(40)]
    assert {len(row["tokens"]) for row in found} == {3, 4, 5}
    assert any("!!" in row["tokens"] for row in found)
    for row in found:
        assert dict(zip(row["tokens"], row["tags"], strict=True))["Rome"] == "B-LOC"


def test_marks_of_an_entity_stay():
    row = {"tokens": ["Yahoo", "!", "ok"], "tags": ["B-ORG", "I-ORG", "O"]}
    noise = SurfaceNoise(case_rate=0, punctuation_rate=1)
    assert noise(row, Draws(0)) == row
