"""Numbers against BLAKE2b itself, and their distributions against SciPy."""

from collections import Counter
from hashlib import blake2b

import numpy as np
import pytest
from scipy import stats

from ray_sft.data.augment import Draws

NUM = 20_000
UNLIKELY = 1e-3
"""The seeds are fixed, so what holds once holds always."""


def test_numbers_are_a_counter_hashed_with_the_key():
    draws = Draws(7, 12, 3)
    expected = []
    for block in range(2):
        digest = blake2b(block.to_bytes(8, "little") + b"7,12,3").digest()
        words = [int.from_bytes(digest[at : at + 8], "little") for at in range(0, 64, 8)]
        expected += words[::-1]
    assert [draws.bits() for _ in range(16)] == expected


def test_keys_of_other_parts_or_number_types_are_told_apart_and_not():
    assert Draws(1, 23).bits() != Draws(12, 3).bits()
    assert Draws(1, np.int64(23)).bits() == Draws(1, 23).bits()


def test_random_is_uniform_within_a_key_and_over_keys():
    draws = Draws(0)
    for numbers in (
        [draws.random() for _ in range(NUM)],
        [Draws(0, row).random() for row in range(NUM)],
    ):
        assert 0 <= min(numbers) < max(numbers) < 1
        assert stats.kstest(numbers, "uniform").pvalue > UNLIKELY


def test_below_and_choice_give_each_with_the_same_chance():
    draws = Draws(1)
    counts = Counter(draws.below(7) for _ in range(NUM))
    assert sorted(counts) == list(range(7))
    assert stats.chisquare(list(counts.values())).pvalue > UNLIKELY
    assert draws.below(1) == 0
    assert {draws.choice("ab") for _ in range(50)} == {"a", "b"}


def test_every_order_comes_with_the_same_chance():
    draws = Draws(2)
    counts = Counter(tuple(draws.order(4)) for _ in range(NUM))
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > UNLIKELY
    assert list(draws.order(0)) == []


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.97])
def test_hits_are_independent_events_of_one_chance(rate):
    found = [Draws(3, row).hits(40, rate) for row in range(NUM // 10)]
    assert all(hits == sorted(set(hits)) for hits in found)
    by_place = Counter(place for hits in found for place in hits)
    expected = len(found) * rate
    assert stats.chisquare([by_place[place] for place in range(40)]).pvalue > UNLIKELY
    assert sum(by_place.values()) / 40 == pytest.approx(expected, rel=0.02)
    counts = np.bincount([len(hits) for hits in found], minlength=41)
    theory = stats.binom.pmf(np.arange(41), 40, rate) * len(found)
    common = theory > 5
    seen, likely = counts[common], theory[common]
    assert stats.chisquare(seen, likely * seen.sum() / likely.sum()).pvalue > UNLIKELY


def test_hits_at_the_ends_of_the_chances():
    assert Draws(4).hits(5, 0) == []
    assert Draws(4).hits(5, 1) == [0, 1, 2, 3, 4]
    assert Draws(4).hits(5, 5e-324) == []
    assert Draws(4).hits(5, 1 - 1e-16) == [0, 1, 2, 3, 4]
    assert Draws(4).hits(0, 0.5) == []


def test_a_generator_follows_from_the_key_and_moves_on():
    draws = Draws(5)
    first, second = draws.generator().random(3), draws.generator().random(3)
    assert first.tolist() == Draws(5).generator().random(3).tolist() != second.tolist()
