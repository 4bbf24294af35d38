"""Limits of one process."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.errors import ApiError
from serve.keys import ApiKey, KeyLimits
from serve.quotas import LocalQuotas, Ticket

from .clock import Clock

pytestmark = pytest.mark.asyncio


def key(name: str = "web", **limits: int) -> ApiKey:
    return ApiKey(name=name, sha256="0" * 64, limits=KeyLimits(**limits))


async def admitted(quotas: LocalQuotas, one: ApiKey) -> Ticket:
    ticket = await quotas.admit(one)
    assert ticket is not None
    return ticket


async def refused(quotas: LocalQuotas, one: ApiKey) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await quotas.admit(one)
    assert caught.value.status == 429
    assert caught.value.tree()["type"] == "rate_limit_error"
    assert one.name in caught.value.message
    return caught.value


async def test_a_minutes_worth_comes_at_once_and_then_evenly() -> None:
    clock = Clock()
    quotas, web = LocalQuotas(clock=clock), key(requests_per_minute=6)
    for _ in range(6):
        (await admitted(quotas, web)).release()
    error = await refused(quotas, web)
    assert error.code == "rate_limit_exceeded"
    assert error.headers["retry-after"] == "10"
    clock.now += 9.9
    assert (await refused(quotas, web)).headers["retry-after"] == "1"
    clock.now += 0.1
    await admitted(quotas, web)
    await refused(quotas, web)


async def test_coming_again_after_retry_after_works() -> None:
    clock = Clock()
    quotas, web = LocalQuotas(clock=clock), key(requests_per_minute=70)
    for _ in range(300):
        try:
            await quotas.admit(web)
        except ApiError as error:
            clock.now += int(error.headers["retry-after"])
            await admitted(quotas, web)


async def test_headers_say_what_openai_s_say() -> None:
    clock = Clock()
    quotas, web = LocalQuotas(clock=clock), key(requests_per_minute=60, tokens_per_minute=600)
    ticket = await admitted(quotas, web)
    assert dict(ticket.headers) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",
        b"x-ratelimit-limit-tokens": b"600",
        b"x-ratelimit-remaining-tokens": b"600",
        b"x-ratelimit-reset-tokens": b"0ms",
    }
    ticket.charge(1234)
    clock.now += 0.2
    refusal = (await refused(quotas, web)).headers
    assert refusal["x-ratelimit-remaining-requests"] == "59"
    assert refusal["x-ratelimit-reset-requests"] == "800ms"
    assert refusal["x-ratelimit-remaining-tokens"] == "0"
    assert refusal["x-ratelimit-reset-tokens"] == "2m4s"
    assert (await admitted(quotas, key("slots", concurrent_requests=1))).headers == []


async def test_no_more_at_the_same_time_than_allowed() -> None:
    quotas, web = LocalQuotas(clock=Clock()), key(concurrent_requests=2, requests_per_minute=3)
    first, second = await admitted(quotas, web), await admitted(quotas, web)
    error = await refused(quotas, web)
    assert (error.code, error.headers["retry-after"]) == ("too_many_concurrent_requests", "1")
    first.release()
    first.release()
    third = await admitted(quotas, web)  # the refusal has used no request
    assert (await refused(quotas, web)).code == "too_many_concurrent_requests"
    second.release()
    third.release()
    assert (await refused(quotas, web)).code == "rate_limit_exceeded"


async def test_tokens_are_counted_afterwards_and_refuse_until_they_are_there_again() -> None:
    clock = Clock()
    quotas, web = LocalQuotas(clock=clock), key(tokens_per_minute=60)
    ticket = await admitted(quotas, web)
    ticket.charge(100)
    ticket.release()
    error = await refused(quotas, web)
    assert (error.code, error.headers["retry-after"]) == ("token_limit_exceeded", "41")
    clock.now += 41
    await admitted(quotas, web)


async def test_keys_do_not_share_and_those_without_limits_get_no_ticket() -> None:
    quotas = LocalQuotas(KeyLimits(requests_per_minute=1), clock=Clock())
    await admitted(quotas, key("one"))
    await admitted(quotas, key("two"))
    await refused(quotas, key("one"))
    assert await quotas.admit(key("free", requests_per_minute=0)) is None
    assert await LocalQuotas().admit(key("one")) is None


async def test_changed_limits_hold_at_once_and_forget_nothing() -> None:
    quotas = LocalQuotas(clock=Clock())
    tickets = [
        await admitted(quotas, key(requests_per_minute=10, concurrent_requests=5)) for _ in range(4)
    ]
    lower = key(requests_per_minute=10, concurrent_requests=3)
    assert (await refused(quotas, lower)).code == "too_many_concurrent_requests"
    for ticket in tickets:
        ticket.release()
    for _ in range(3):
        await admitted(quotas, lower)
    higher = key(requests_per_minute=12, concurrent_requests=9)
    for _ in range(12 - 7):
        await admitted(quotas, higher)
    assert (await refused(quotas, higher)).code == "rate_limit_exceeded"


@settings(deadline=None)
@given(
    limit=st.integers(1, 6),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=80),
)
async def test_the_number_at_the_same_time_is_never_negative_and_ends_at_zero(
    limit: int, steps: list[tuple[bool, int]]
) -> None:
    quotas, web = LocalQuotas(clock=Clock()), key(concurrent_requests=limit)
    running: list[Ticket] = []
    ended: list[Ticket] = []
    for comes, which in steps:
        if comes:
            if len(running) < limit:
                running.append(await admitted(quotas, web))
            else:
                await refused(quotas, web)
        elif which % 2 and ended:
            ended[which % len(ended)].release()  # once more
        elif running:
            ended.append(running.pop(which % len(running)))
            ended[-1].release()
    for ticket in running:
        ticket.release()
    full = [await admitted(quotas, web) for _ in range(limit)]
    await refused(quotas, web)
    assert len(full) == limit
