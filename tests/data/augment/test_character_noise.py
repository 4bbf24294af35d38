import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypinyin import lazy_pinyin

from ray_sft.data.augment import CharacterNoise, Draws
from ray_sft.data.augment.look_alikes import KEYBOARD, SHAPES


def noisy(text, seed=0, **fields):
    return CharacterNoise(**fields).edit(text, Draws(seed))


@pytest.mark.parametrize(
    ("slip", "before", "after"),
    [
        ("ocr", "wood, s1z", "vv00cl, 512"),
        ("double", "no way!", "nnoo wwaayy!"),
        ("drop", "abc. de", "c. e"),
        ("swap", "abc. de", "bca. ed"),
        ("drop", "转账，好的", "账，的"),
        ("swap", "转账，好的", "账转，的好"),
        ("double", "好的", "好的"),
        ("homophone", "bad", "bad"),
        ("keyboard", "好的", "好的"),
        ("shape", "戊戌a", None),
    ],
)
def test_each_slip_alone_on_every_letter(slip, before, after):
    changed = noisy(before, rate=1, slips=(slip,))
    if after is not None:
        assert changed == after
    else:
        assert changed[0] in SHAPES["戊"]
        assert changed[1] in SHAPES["戌"]
        assert changed[2:] == "a"


def test_keyboard_slips_hit_neighbours_in_the_same_case():
    before = "The Quick brown fox"
    for old, new in zip(before, noisy(before, rate=1, slips=("keyboard",)), strict=True):
        assert new.lower() in KEYBOARD.get(old.lower(), old)
        assert new.isupper() == old.isupper()


def test_homophones_follow_the_word_that_a_character_stands_in():
    for seed in range(10):
        changed = noisy("银行", seed, rate=1, slips=("homophone",))
        assert lazy_pinyin(changed[1]) == ["hang"]
        assert changed[1] != "行"


@given(st.text(), st.integers(0, 10**6), st.sampled_from([0.05, 0.5, 1.0]))
@settings(max_examples=300, deadline=None)
def test_everything_but_letters_stays_where_it_was(text, seed, rate):
    """White space, punctuation and digits; nlpaug loses spaces around punctuation (#143)."""

    def others(string):
        return [c for c in string if not c.isalnum()]

    assert others(noisy(text, seed, rate=rate)) == others(text)


def test_digits_are_facts_and_stay():
    before = "500 euros on 12 May 2024"
    changed = noisy(before, rate=1, slips=("keyboard", "swap", "drop", "double"))
    assert [c for c in changed if c.isdigit()] == [c for c in before if c.isdigit()]


def test_the_share_of_changed_letters_is_the_rate():
    text = "keyboard noise " * 2000
    changed = noisy(text, rate=0.1, slips=("keyboard",))
    num_letters = sum(c.isalpha() for c in text)
    share = sum(a != b for a, b in zip(text, changed, strict=True)) / num_letters
    assert share == pytest.approx(0.1, abs=0.006)  # 3 sigma of a binomial share


def test_a_short_text_has_at_least_one_letter_changed():
    assert all(noisy("refund", seed, rate=0.001) != "refund" for seed in range(30))
    assert noisy("kkkw", rate=0.001, slips=("ocr",)) == "kkkvv", "tries until a letter can slip"


def test_words_of_entities_are_misspelled_too():
    row = {"tokens": ["in", "London"], "tags": ["O", "B-LOC"]}
    changed = CharacterNoise(rate=1)(row, Draws(0))
    assert changed["tags"] == row["tags"]
    assert changed["tokens"][1] not in ("", "London")
