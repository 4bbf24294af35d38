"""Limits that several replicas share, each with its own border, and one book."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from time import monotonic

import pytest

from serve.errors import ApiError
from serve.keys import ApiKey, KeyLimits
from serve.quotas import Ticket
from serve.quotas.lease_book import Demand, LeaseBook
from serve.quotas.shared import SharedQuotas
from tests.waiting import async_wait_until

from .clock import Clock
from .near_book import NearBook

pytestmark = pytest.mark.asyncio


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> NearBook:
    return NearBook(clock)


@pytest.fixture
def live_book() -> NearBook:
    """By the real clock, for what takes time of its own."""
    return NearBook(monotonic)


def replicas(book: NearBook, num: int = 3) -> list[SharedQuotas]:
    return [SharedQuotas(book=book, replica=str(i), clock=book.clock) for i in range(num)]


def key(**limits: int) -> ApiKey:
    return ApiKey(name="web", sha256="0" * 64, limits=KeyLimits(**limits))


async def ask(quotas: SharedQuotas, one: ApiKey) -> Ticket | ApiError:
    try:
        ticket = await quotas.admit(one)
    except ApiError as error:
        return error
    assert ticket is not None
    return ticket


async def meet(all_quotas: Sequence[SharedQuotas], book: NearBook) -> None:
    """Every replica is known, as it is once its border runs."""
    for number, _ in enumerate(all_quotas):
        await book.exchange(str(number), [])


@pytest.mark.parametrize("limit", [1, 2, 7, 60, 1000])
@pytest.mark.parametrize("delay_s", [0.0, 0.002])
async def test_together_they_admit_exactly_the_limit(
    book: NearBook, limit: int, delay_s: float
) -> None:
    all_quotas, web = replicas(book), key(requests_per_minute=limit)
    await meet(all_quotas, book)
    book.delay_s = delay_s
    answers = await asyncio.gather(
        *(ask(all_quotas[number % 3], web) for number in range(2 * limit + 6))
    )
    # what has been refused may come again: until nothing is held anywhere
    for _ in range(5):
        answers += [await ask(quotas, web) for quotas in all_quotas for _ in range(limit)]
    assert sum(isinstance(answer, Ticket) for answer in answers) == limit
    errors = [answer for answer in answers if isinstance(answer, ApiError)]
    assert {error.code for error in errors} == {"rate_limit_exceeded"}
    assert all(int(error.headers["retry-after"]) >= 1 for error in errors)


async def test_the_refill_goes_to_whoever_asks(book: NearBook, clock: Clock) -> None:
    all_quotas, web = replicas(book), key(requests_per_minute=60)
    await meet(all_quotas, book)
    num = 0
    for second in range(120):
        for quotas in all_quotas:
            for _ in range(70 if second == 0 else 2):
                num += isinstance(await ask(quotas, web), Ticket)
        clock.now += 1
    assert 60 + 119 - 3 <= num <= 60 + 119


async def test_the_book_is_asked_seldom(book: NearBook) -> None:
    (quotas,), web = replicas(book, 1), key(requests_per_minute=60_000, concurrent_requests=64)
    for _ in range(5000):
        ticket = await ask(quotas, web)
        assert isinstance(ticket, Ticket)
        ticket.release()
        await asyncio.sleep(0)
    assert book.num_exchanges < 60


async def test_a_client_who_comes_seldom_does_not_wait(book: NearBook, clock: Clock) -> None:
    all_quotas, web = replicas(book, 2), key(requests_per_minute=60, concurrent_requests=8)
    await meet(all_quotas, book)
    await ask(all_quotas[0], web)
    book.delay_s = 0.05
    for _ in range(5):
        await asyncio.sleep(0.15)  # what was fetched in the background is there
        clock.now += 5
        admission = all_quotas[0].admit(web)
        with pytest.raises(StopIteration) as done:  # it returns without giving up control
            admission.send(None)
        done.value.value.release()


async def test_slots_come_back_in_time_for_another_replica(live_book: NearBook) -> None:
    first, second = replicas(live_book, 2)
    web = key(concurrent_requests=3)
    await meet([first, second], live_book)
    held = [await ask(first, web) for _ in range(3)]
    error = await ask(second, web)
    assert isinstance(error, ApiError)
    assert error.code == "too_many_concurrent_requests"
    for ticket in held:
        assert isinstance(ticket, Ticket)
        ticket.release()
    assert isinstance(await ask(second, web), Ticket)  # it has waited for them


async def test_never_more_at_the_same_time_and_zero_in_the_end(live_book: NearBook) -> None:
    all_quotas, web = replicas(live_book), key(concurrent_requests=4)
    await meet(all_quotas, live_book)
    live_book.delay_s = 0.001
    running = most = done = 0

    async def client(number: int) -> None:
        nonlocal running, most, done
        for turn in range(30):
            ticket = await ask(all_quotas[(number + turn) % 3], web)
            if isinstance(ticket, ApiError):
                continue
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.002)
            running -= 1
            done += 1
            ticket.release()

    await asyncio.gather(*(client(number) for number in range(9)))
    assert most == 4
    assert done > 30
    await asyncio.sleep(0.3)  # longer than spare slots are kept
    demand = Demand("web", KeyLimits(concurrent_requests=4), slots_wanted=4)
    assert live_book.book.exchange("other", [demand]).grants[0].slots == 4


async def test_a_request_that_is_given_up_while_it_waits_takes_nothing(book: NearBook) -> None:
    (quotas,), web = replicas(book, 1), key(concurrent_requests=2)
    book.delay_s = 0.05
    waiting = asyncio.create_task(quotas.admit(web))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    book.delay_s = 0.0
    tickets = [await ask(quotas, web) for _ in range(2)]
    assert all(isinstance(ticket, Ticket) for ticket in tickets)


async def test_without_the_book_each_admits_its_part_until_it_is_back(
    book: NearBook, caplog: pytest.LogCaptureFixture
) -> None:
    all_quotas, web = replicas(book), key(requests_per_minute=30)
    await meet(all_quotas, book)
    async with AsyncExitStack() as stack:
        for quotas in all_quotas:
            await stack.enter_async_context(quotas.running())
        book.is_away = True
        caplog.set_level(logging.WARNING)
        for quotas in all_quotas:
            answers = [await ask(quotas, web) for _ in range(30)]
            assert sum(isinstance(answer, Ticket) for answer in answers) == 10
        assert caplog.text.count("does not answer") == 3
        book.is_away = False
        await async_wait_until(lambda: caplog.text.count("answers again") == 3)
    for quotas in all_quotas:
        num_before = book.num_exchanges
        assert isinstance(await ask(quotas, web), Ticket)
        assert book.num_exchanges > num_before


async def test_a_slow_book_does_not_hold_requests_up_for_long(book: NearBook) -> None:
    (quotas,), web = replicas(book, 1), key(requests_per_minute=30)
    book.delay_s = 30.0
    async with asyncio.timeout(5):
        assert isinstance(await ask(quotas, web), Ticket)


async def test_a_new_book_hears_what_is_held(live_book: NearBook) -> None:
    quotas, other = replicas(live_book, 2)
    web = key(concurrent_requests=5)
    async with quotas.running():
        held = [await ask(quotas, web) for _ in range(4)]
        assert all(isinstance(ticket, Ticket) for ticket in held)
        await asyncio.sleep(1.2)  # all has been said
        live_book.book = LeaseBook()
        await asyncio.sleep(2.4)  # one second to hear of it, another to say all
        assert isinstance(await ask(other, web), Ticket)
        assert isinstance(await ask(other, web), ApiError)


async def test_tokens_of_one_replica_are_missing_at_the_other(book: NearBook) -> None:
    first, second = replicas(book, 2)
    web = key(tokens_per_minute=100)
    async with first.running(), second.running():
        ticket = await ask(first, web)
        assert isinstance(ticket, Ticket)
        assert isinstance(await ask(second, web), Ticket)
        ticket.charge(1000)
        error = await ask(first, web)
        assert isinstance(error, ApiError)
        assert (error.code, error.headers["retry-after"]) == ("token_limit_exceeded", "541")

        async def is_refused() -> bool:
            return isinstance(await ask(second, web), ApiError)

        async with asyncio.timeout(5):
            while not await is_refused():
                await asyncio.sleep(0.05)


async def test_idle_requests_go_back_to_the_book(book: NearBook) -> None:
    first, second = replicas(book, 2)
    web = key(requests_per_minute=200)
    async with first.running(), second.running():
        for _ in range(20):
            assert isinstance(await ask(first, web), Ticket)
        await asyncio.sleep(3.2)
        num = 0
        while isinstance(await ask(second, web), Ticket):
            num += 1
        standing = 200 // (16 * 2)
        assert 180 - standing <= num <= 180


async def test_changed_limits_of_a_key_hold_everywhere(book: NearBook) -> None:
    all_quotas = replicas(book)
    await meet(all_quotas, book)
    for quotas in all_quotas:
        for _ in range(5):
            await ask(quotas, key(requests_per_minute=100))
    lower = key(requests_per_minute=10)
    answers = [await ask(quotas, lower) for quotas in all_quotas for _ in range(20)]
    assert sum(isinstance(answer, Ticket) for answer in answers) <= 10
    assert await all_quotas[0].admit(key(requests_per_minute=0)) is None
