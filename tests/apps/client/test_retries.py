"""The policy of retries: numbers in, numbers out."""

import random

import pytest

from apps.client.errors import ServiceError
from apps.client.retries import (
    RetryBudget,
    RetryPolicy,
    wait_before_retry,
    wait_before_return,
)

POLICY = RetryPolicy(max_attempts=4, first_wait_s=0.1, longest_wait_s=8.0)
BUSY = ServiceError("busy", status=429)


def wait(attempt=1, error=BUSY, *, left_s=60.0, draw=1.0, policy=POLICY):
    return wait_before_retry(policy, attempt, error, left_s=left_s, draw=draw)


@pytest.mark.parametrize(
    ("status", "code", "is_retried"),
    [
        (429, "queue_full", True),
        (502, None, True),
        (503, "stopping", True),
        (504, None, True),
        (None, "unreachable", True),
        (None, "broken_off", True),
        (None, "timeout", False),
        (None, "no_free_connection", False),
        (400, "broken_off", False),
        (401, None, False),
        (404, None, False),
        (408, "timeout", False),
        (500, "item_failed", False),
        (500, None, True),  # of Ray's proxy, whose replica is gone
        (200, "generation_failed", False),
    ],
)
def test_only_what_may_pass_is_tried_again(status, code, is_retried):
    found = wait(error=ServiceError("x", status=status, code=code))
    assert (found is not None) == is_retried


def test_the_span_doubles_up_to_the_longest_wait():
    patient = RetryPolicy(max_attempts=99, first_wait_s=0.1, longest_wait_s=1.0)
    waits = [wait(attempt, policy=patient) for attempt in range(1, 8)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])


def test_the_jitter_is_full():
    assert wait(3, draw=0.0) == 0.0
    assert wait(3, draw=0.25) == pytest.approx(0.1)
    draws = random.Random(0)
    waits = [wait(3, draw=draws.random()) for _ in range(20_000)]
    assert sum(waits) / len(waits) == pytest.approx(0.2, rel=0.02)  # the mean of 0 to 0.4


def test_attempts_are_bounded():
    assert [wait(attempt) is None for attempt in (3, 4, 5)] == [False, True, True]
    assert wait(policy=RetryPolicy(max_attempts=1)) is None


def test_retry_after_is_the_least_wait_and_jitter_comes_on_top():
    asked = ServiceError("busy", status=429, retry_after_s=2.0)
    assert wait(error=asked, draw=0.0) == 2.0
    assert wait(2, error=asked, draw=0.5) == pytest.approx(2.1)


def test_a_wait_beyond_the_deadline_or_the_patience_is_not_begun():
    assert wait(error=ServiceError("x", status=503, retry_after_s=9.0)) is None
    asked = ServiceError("x", status=503, retry_after_s=2.0)
    assert wait(error=asked, left_s=2.05, draw=1.0) is None
    assert wait(error=asked, left_s=2.05, draw=0.0) == 2.0
    assert wait(left_s=0.0, draw=0.0) is None


def test_retries_are_a_tenth_of_the_calls_in_the_long_run():
    budget = RetryBudget(RetryPolicy(share=0.1, burst=10))
    num_retries = 0
    for _ in range(1000):
        budget.deposit()
        while budget.withdraw():  # as greedy as can be
            num_retries += 1
    assert num_retries == 10 + 99  # the first deposit found the budget full


def test_a_quiet_time_saves_up_no_more_than_the_burst():
    budget = RetryBudget(RetryPolicy(share=0.5, burst=3))
    for _ in range(100):
        budget.deposit()
    assert [budget.withdraw() for _ in range(4)] == [True, True, True, False]


def test_ten_deposits_are_one_retry():
    budget = RetryBudget(RetryPolicy(share=0.1, burst=1))
    assert budget.withdraw()
    for _ in range(9):
        budget.deposit()
        assert not budget.withdraw()
    budget.deposit()
    assert budget.withdraw()


def test_many_clients_do_not_multiply_an_overload():
    """Simulated: a service away for 1000 calls of each of 20 clients is asked a tenth more.

    And as often as each client's budget holds at the beginning.
    """
    policy = RetryPolicy(max_attempts=4)
    num_requests = 0
    for _ in range(20):
        budget = RetryBudget(policy)
        for _ in range(1000):
            budget.deposit()
            num_requests, attempt = num_requests + 1, 1
            while wait(attempt, policy=policy) is not None and budget.withdraw():
                num_requests, attempt = num_requests + 1, attempt + 1
    assert num_requests <= 20 * (1000 * 1.1 + policy.burst)


@pytest.mark.parametrize(
    "numbers",
    [
        {"max_attempts": 0},
        {"share": 1.5},
        {"burst": -1},
        {"first_wait_s": 2.0, "longest_wait_s": 1.0},
        {"first_wait_s": float("nan")},
        {"reconnect_s": -1.0},
        {"reconnect_s": float("nan")},
    ],
)
def test_numbers_that_are_no_policy_are_refused(numbers):
    with pytest.raises(ValueError, match="RetryPolicy needs"):
        RetryPolicy(**numbers)


def wait_for_return(attempt=1, *, away_s=0.0, left_s=60.0, draw=1.0, policy=POLICY):
    return wait_before_return(policy, attempt, away_s=away_s, left_s=left_s, draw=draw)


def test_who_comes_back_is_looked_for_every_second_at_least():
    waits = [wait_for_return(attempt) for attempt in (1, 2, 3, 4, 5, 6, 2000)]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0])
    assert wait_for_return(6, draw=0.25) == pytest.approx(0.25)


def test_who_does_not_come_back_is_waited_for_as_long_as_the_policy_says():
    policy = RetryPolicy(reconnect_s=5.0)
    assert wait_for_return(9, away_s=3.9, policy=policy) == 1.0
    assert wait_for_return(9, away_s=4.1, policy=policy) is None
    assert wait_for_return(9, left_s=0.9, policy=policy) is None


def test_a_policy_of_one_attempt_waits_for_nobody():
    assert wait_for_return(policy=RetryPolicy(max_attempts=1)) is None
