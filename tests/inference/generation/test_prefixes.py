import numpy as np
import pytest

from ray_sft.inference.generation.prefixes import PrefixCache

SYSTEM = list(range(100, 140))


def state_of(tokens) -> tuple[np.ndarray, ...]:
    return (np.asarray(tokens, dtype=np.float32)[None, :, None],)


def keep(cache, tokens, *, scope="") -> None:
    cache.keep(tokens, state_of(tokens), scope=scope)


def test_the_longest_common_beginning_is_found_with_its_state():
    cache = PrefixCache(1000)
    keep(cache, [*SYSTEM, 1, 2, 3])
    keep(cache, [*SYSTEM[:20], 9, 9, 9])
    num, state = cache.find([*SYSTEM, 1, 2, 7, 7], scope="")
    assert num == 42
    np.testing.assert_array_equal(state[0][0, :num, 0], [*SYSTEM, 1, 2])


def test_the_last_token_is_always_read():
    cache = PrefixCache(1000)
    keep(cache, SYSTEM)
    assert cache.find(SYSTEM, scope="")[0] == len(SYSTEM) - 1


@pytest.mark.parametrize("tokens", [SYSTEM[:15] + [0] * 9, [0, *SYSTEM], SYSTEM[:10]])
def test_too_little_in_common_is_not_worth_it(tokens):
    cache = PrefixCache(1000)
    keep(cache, SYSTEM)
    assert cache.find(tokens, scope="") == (0, ())


def test_other_scopes_see_nothing():
    cache = PrefixCache(1000)
    keep(cache, SYSTEM, scope="one")
    assert cache.find([*SYSTEM, 1], scope="other") == (0, ())
    assert cache.wants(SYSTEM, scope="other")
    keep(cache, SYSTEM, scope="other")
    assert cache.num_tokens == 2 * len(SYSTEM)


def test_a_longer_prompt_takes_the_place_of_its_beginning():
    cache = PrefixCache(1000)
    keep(cache, SYSTEM)
    keep(cache, [*SYSTEM, *range(20)])
    assert cache.num_tokens == 60


def test_the_prompt_that_was_used_longest_ago_makes_room():
    cache = PrefixCache(120)
    first, second, third = ([base] * 40 for base in (1, 2, 3))
    keep(cache, first)
    keep(cache, second)
    keep(cache, third)
    cache.find([*first, 0], scope="")
    keep(cache, [4] * 40)
    assert cache.num_tokens == 120
    assert cache.find([*first, 0], scope="")[0] == 40
    assert cache.find([*second, 0], scope="")[0] == 0


def test_only_what_adds_enough_is_wanted():
    cache = PrefixCache(100)
    assert not cache.wants(SYSTEM[:16], scope="")
    assert cache.wants(SYSTEM[:17], scope="")
    assert not cache.wants([0] * 101, scope="")
    keep(cache, SYSTEM)
    assert not cache.wants([*SYSTEM, *range(15)], scope="")
    assert cache.wants([*SYSTEM, *range(16)], scope="")
    assert not PrefixCache(0).wants(SYSTEM, scope="")
