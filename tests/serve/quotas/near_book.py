"""A book of limits without Ray."""

import asyncio
from collections.abc import Callable, Sequence

from serve.quotas.lease_book import Demand, LeaseBook, Reply

__all__ = ["NearBook"]


class NearBook:
    """The book in this process; it can be slow, or away."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.book = LeaseBook(clock)
        self.delay_s = 0.0
        self.is_away = False
        self.num_exchanges = 0

    async def exchange(self, replica: str, demands: Sequence[Demand]) -> Reply:
        self.num_exchanges += 1
        if self.is_away:
            raise ConnectionError("away")
        reply = self.book.exchange(replica, demands)
        await asyncio.sleep(self.delay_s)
        return reply
