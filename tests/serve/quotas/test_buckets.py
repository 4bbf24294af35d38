"""The laws of a token bucket."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.quotas.buckets import TokenBucket

PAUSES = st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=80)


@settings(deadline=None)
@given(limit=st.integers(1, 60), pauses=PAUSES, num=st.integers(1, 5))
def test_no_window_gives_more_than_a_full_bucket_and_its_refill(
    limit: int, pauses: list[float], num: int
) -> None:
    bucket = TokenBucket(limit, limit / 60, 0.0)
    now, taken = 0.0, []
    for pause in pauses:
        now += pause
        taken.append((now, sum(num for _ in range(limit + 1) if bucket.take(now, num))))
    for first, (begin, _) in enumerate(taken):
        total = 0
        for end, given_out in taken[first:]:
            total += given_out
            assert total <= limit + limit / 60 * (end - begin) + 1e-6


@settings(deadline=None)
@given(limit=st.integers(1, 200), pauses=PAUSES)
def test_after_the_wait_that_it_says_one_is_there_and_not_much_before(
    limit: int, pauses: list[float]
) -> None:
    bucket = TokenBucket(limit, limit / 60, 0.0)
    now = 0.0
    for pause in pauses:
        now += pause
        while bucket.take(now):
            pass
        wait = bucket.wait_s(now)
        assert 0 < wait <= 60 / limit + 1e-6
        assert not bucket.take(now + wait * 0.99)
        now += wait * 1.001
        assert bucket.take(now)


@settings(deadline=None)
@given(
    limit=st.integers(1, 100),
    steps=st.lists(st.tuples(st.floats(0, 10), st.integers(-50, 200)), max_size=40),
)
def test_its_level_never_passes_the_ceiling_whatever_is_charged(
    limit: int, steps: list[tuple[float, int]]
) -> None:
    bucket = TokenBucket(limit, limit / 60, 0.0)
    now = 0.0
    for pause, num in steps:
        now += pause
        bucket.charge(now, num)
        assert bucket.level(now) <= limit
        assert bucket.reset_s(now) == pytest.approx((limit - bucket.level(now)) / (limit / 60))


def test_a_debt_is_paid_back_before_anything_is_given() -> None:
    bucket = TokenBucket(60, 1.0, 0.0)
    bucket.charge(0.0, 70)
    assert bucket.level(0.0) == -10
    assert bucket.wait_s(0.0) == 11
    assert not bucket.take(10.5)
    assert bucket.take(11.0)


def test_what_was_used_stays_used_where_the_limit_changes() -> None:
    old = TokenBucket(60, 1.0, 0.0)
    old.charge(0.0, 50)
    for limit, left in ((100, 50), (55, 5), (20, 0)):
        new = TokenBucket.minute(limit, 0.0, old)
        assert new is not None
        assert new.level(0.0) == left
    assert TokenBucket.minute(None, 0.0, old) is None
    assert TokenBucket.minute(0, 0.0, old) is None


def test_a_clock_that_stands_still_or_goes_back_refills_nothing() -> None:
    bucket = TokenBucket(2, 1.0, 10.0)
    assert bucket.take(10.0)
    assert bucket.level(5.0) == 1
    assert bucket.level(10.0) == 1
