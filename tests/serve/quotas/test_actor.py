"""The book of limits as a Ray actor."""

import asyncio
from contextlib import AsyncExitStack, suppress
from time import perf_counter
from uuid import uuid4

import pytest
import ray

from serve.errors import ApiError
from serve.keys import ApiKey, KeyLimits
from serve.quotas import Ticket
from serve.quotas.actor import ActorBook, shared_quotas
from serve.quotas.lease_book import Demand
from tests.ray_session import local_ray

__all__ = ["local_ray"]

pytestmark = [pytest.mark.ray, pytest.mark.asyncio, pytest.mark.usefixtures("local_ray")]


def key(**limits: int) -> ApiKey:
    return ApiKey(name="web", sha256="0" * 64, limits=KeyLimits(**limits))


async def test_replicas_share_one_book_and_ask_it_seldom() -> None:
    service, web = uuid4().hex, key(requests_per_minute=6000)
    replicas = [shared_quotas(service, str(number), KeyLimits()) for number in range(3)]
    begin = perf_counter()
    num = 0
    async with AsyncExitStack() as stack:
        for replica in replicas:
            await stack.enter_async_context(replica.running())
        for turn in range(12_000):
            with suppress(ApiError):
                num += isinstance(await replicas[turn % 3].admit(web), Ticket)
            if turn % 100 == 0:
                await asyncio.sleep(0)
    assert 6000 <= num <= 6000 + 100 * (perf_counter() - begin)


async def test_a_book_that_dies_is_made_anew() -> None:
    name = uuid4().hex
    book, other = ActorBook(name), ActorBook(name)
    limits = KeyLimits(concurrent_requests=2)
    async with asyncio.timeout(60):
        await book.exchange("a", [Demand("web", limits, slots_wanted=2)])
        reply = await other.exchange("b", [Demand("web", limits, slots_wanted=2)])
        assert (reply.grants[0].slots, reply.num_replicas) == (0, 2)
        ray.kill(ray.get_actor(name))
        with pytest.raises(ConnectionError, match="the book of limits"):
            await book.exchange("a", [])
        reply = await book.exchange("a", [Demand("web", limits, slots=2)])
        assert reply.is_new
        with pytest.raises(ConnectionError):
            await other.exchange("b", [])
        reply = await other.exchange("b", [Demand("web", limits, slots_wanted=2)])
        assert (reply.grants[0].slots, reply.num_replicas) == (0, 2)
