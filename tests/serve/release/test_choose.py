import pytest

from serve.release.choose import is_chosen, place

KEYS = [f"request-{number}" for number in range(20_000)]


def test_a_key_lies_at_the_same_place_every_time():
    assert place("a", "salt") == place("a", "salt")
    # of another process too: this is BLAKE2b of "salt\na", first eight bytes, over 2**64
    assert place("a", "salt") == pytest.approx(100 * int("ac8b95efa5ca43d3", 16) / 2**64)


@pytest.mark.parametrize("percent", [0.0, 1.0, 10.0, 50.0, 100.0])
def test_the_share_is_what_was_asked_for(percent):
    chosen = sum(is_chosen(key, "salt", percent=percent) for key in KEYS)
    deviation = (percent * (100 - percent) / len(KEYS)) ** 0.5
    assert 100 * chosen / len(KEYS) == pytest.approx(percent, abs=5 * deviation + 1e-9)


def test_who_is_among_ten_percent_is_among_fifty():
    ten = {key for key in KEYS if is_chosen(key, "salt", percent=10)}
    fifty = {key for key in KEYS if is_chosen(key, "salt", percent=50)}
    assert ten < fifty


def test_another_candidate_meets_other_clients():
    one = {key for key in KEYS if is_chosen(key, "one", percent=10)}
    other = {key for key in KEYS if is_chosen(key, "other", percent=10)}
    assert len(one & other) / len(one) == pytest.approx(0.1, abs=0.04)
