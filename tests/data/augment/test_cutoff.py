import numpy as np
import pytest

from ray_sft.data.augment import Cutoff, Draws

TEXT = "one two three four five six seven eight nine ten"


def copies(operation, text=TEXT, num=40):
    return [operation.edit(text, Draws(seed)) for seed in range(num)]


@pytest.mark.parametrize("form", ["span", "token"])
def test_the_share_of_words_is_left_out(form):
    found = copies(Cutoff(rate=0.3, form=form))
    assert {len(text.split()) for text in found} == {7}
    assert len(set(found)) > 5


def test_a_span_is_one_stretch_at_any_place_and_single_words_are_not():
    def gaps(form):
        order = TEXT.split()
        found = [[order.index(w) for w in t.split()] for t in copies(Cutoff(rate=0.3, form=form))]
        left_out = [sorted(set(range(10)) - set(places)) for places in found]
        return {tuple(np.diff(places)) for places in left_out}, {places[0] for places in left_out}

    steps, starts = gaps("span")
    assert steps == {(1, 1)}
    assert starts == set(range(8))
    assert len(gaps("token")[0]) > 3


def test_one_word_at_least_goes_and_one_at_least_stays():
    assert set(copies(Cutoff(rate=0.01), "one two")) == {"one", "two"}
    assert set(copies(Cutoff(rate=1.0, form="token"), "one two three")) == {"one", "two", "three"}
    assert set(copies(Cutoff(rate=1.0), "one")) == {"one"}


def test_a_chinese_character_is_a_word():
    found = copies(Cutoff(rate=0.5), "\u8f6c\u8d26\u95ee\u9898")
    assert {len(text) for text in found} == {2}
