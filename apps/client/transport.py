"""Carries out calls and waits for them; safe between threads."""

import time
from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

import httpx
from httpx_sse import EventSource

from apps.client.call import Call, StreamCall
from apps.client.deadline import DeadlineTransport, Slots
from apps.client.errors import ServiceError
from apps.client.exchange import DONE, KEEPALIVE_S, Exchange, authorities, client_arguments
from apps.client.options import Options
from apps.client.retries import RetryBudget
from apps.client.streams import Stream

__all__ = ["Transport"]

T = TypeVar("T")


class Transport:
    """Asks one service."""

    def __init__(self, options: Options, *, shared: "Transport | None" = None) -> None:
        """With ``shared``, over the connections and out of the budget of another one."""
        self.options = options
        if shared is None:
            self._budget = RetryBudget(options.retry)
            self._slots = Slots(options.max_connections)
            network = DeadlineTransport(verify=authorities(), keepalive_expiry=KEEPALIVE_S)
            self._http = httpx.Client(transport=network, **client_arguments(options))
        else:
            self._budget, self._slots, self._http = shared._budget, shared._slots, shared._http

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """What the service replies.

        Raises:
            ServiceError: the service is away or refuses, after all attempts.
        """
        exchange = Exchange(call, self.options, self._budget)
        while True:
            try:
                with exchange.explained(), self._slots.lease(exchange.left_s):
                    response = self._http.send(exchange.request(self._http))
                return call.read(exchange.reply(response))
            except ServiceError as error:
                wait_s = exchange.wait_s(error)
            time.sleep(wait_s)

    def stream(self, call: StreamCall[T]) -> Stream[T]:
        """What the service replies, piece by piece."""
        return Stream(self._pieces(call))

    def _pieces(self, call: StreamCall[T]) -> Generator[T, None, None]:
        exchange = Exchange(call, self.options, self._budget)
        has_begun = False
        while True:
            try:
                with closing(self._events(exchange)) as events:
                    for data in events:
                        has_begun = True
                        piece = exchange.piece(call, data)
                        if piece is not None:
                            yield piece
                return
            except ServiceError as error:
                if has_begun:
                    raise
                wait_s = exchange.wait_s(error)
            time.sleep(wait_s)

    def _events(self, exchange: Exchange) -> Generator[str, None, None]:
        """The data of every event of one attempt."""
        with exchange.explained(), self._slots.lease(exchange.left_s) as mine:
            response = self._http.send(exchange.request(self._http), stream=True)
            with closing(response):
                if not response.is_success:
                    response.read()
                    exchange.reply(response).check()
                for event in EventSource(response).iter_sse():
                    if event.data == DONE:
                        return
                    if event.data:
                        yield event.data
                    mine.extend(self.options.timeout_s)
        raise exchange.broken_off()
