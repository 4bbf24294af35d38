"""Carries out calls that are awaited; from one event loop only."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from apps.client.call import Call, StreamCall
from apps.client.errors import ServiceError
from apps.client.exchange import DONE, KEEPALIVE_S, Exchange, authorities, client_arguments
from apps.client.options import Options
from apps.client.retries import RetryBudget
from apps.client.streams import AsyncStream

__all__ = ["AsyncTransport"]

T = TypeVar("T")


class AsyncTransport:
    """Asks one service."""

    def __init__(self, options: Options, *, shared: "AsyncTransport | None" = None) -> None:
        """With ``shared``, over the connections and out of the budget of another one."""
        self.options = options
        if shared is None:
            self._budget = RetryBudget(options.retry)
            limits = httpx.Limits(
                max_connections=options.max_connections,
                max_keepalive_connections=options.max_connections,
                keepalive_expiry=KEEPALIVE_S,
            )
            network = httpx.AsyncHTTPTransport(verify=authorities(), trust_env=False, limits=limits)
            self._http = httpx.AsyncClient(transport=network, **client_arguments(options))
        else:
            self._budget, self._http = shared._budget, shared._http

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """What the service replies.

        Raises:
            ServiceError: the service is away or refuses, after all attempts.
        """
        exchange = Exchange(call, self.options, self._budget)
        while True:
            try:
                with exchange.explained():
                    async with asyncio.timeout(exchange.left_s):
                        response = await self._http.send(exchange.request(self._http))
                return call.read(exchange.reply(response))
            except ServiceError as error:
                wait_s = exchange.wait_s(error)
            await asyncio.sleep(wait_s)

    def stream(self, call: StreamCall[T]) -> AsyncStream[T]:
        """What the service replies, piece by piece."""
        return AsyncStream(self._pieces(call))

    async def _pieces(self, call: StreamCall[T]) -> AsyncGenerator[T, None]:
        exchange = Exchange(call, self.options, self._budget)
        has_begun = False
        while True:
            try:
                async with aclosing(self._events(exchange)) as events:
                    async for data in events:
                        has_begun = True
                        piece = exchange.piece(call, data)
                        if piece is not None:
                            yield piece
                return
            except ServiceError as error:
                if has_begun:
                    raise
                wait_s = exchange.wait_s(error)
            await asyncio.sleep(wait_s)

    async def _events(self, exchange: Exchange) -> AsyncGenerator[str, None]:
        """The data of every event of one attempt."""
        with exchange.explained():
            async with asyncio.timeout(exchange.left_s):
                request = exchange.request(self._http)
                response = await self._http.send(request, stream=True)
            async with aclosing(response):
                if not response.is_success:
                    async with asyncio.timeout(exchange.left_s):
                        await response.aread()
                    exchange.reply(response).check()
                left_s = exchange.left_s
                async with aclosing(EventSource(response).aiter_sse()) as events:
                    while event := await _next(events, left_s):
                        if event.data == DONE:
                            return
                        if event.data:
                            yield event.data
                        left_s = self.options.timeout_s
        raise exchange.broken_off()


async def _next(
    events: AsyncGenerator[ServerSentEvent, None], left_s: float
) -> ServerSentEvent | None:
    """The next event, None after the last; TimeoutError where it takes longer than ``left_s``."""
    async with asyncio.timeout(left_s):
        return await anext(events, None)
