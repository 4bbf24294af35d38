"""The book of limits as a Ray actor, which every replica of a service finds by its name.

The first replica makes it; it ends with that replica, and the next exchange of another one makes
a new book, so that nothing of it outlives the service.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from serve.keys.api_key import KeyLimits
from serve.quotas.lease_book import Demand, LeaseBook, Reply
from serve.quotas.shared import SharedQuotas

__all__ = ["ActorBook", "shared_quotas"]


class ActorBook:
    """A `serve.quotas.shared.Book` in an actor."""

    def __init__(self, name: str) -> None:
        """``name`` is the same for all replicas of a service, and no other's."""
        self._name = name
        self._actor: Any = None

    async def exchange(self, replica: str, demands: Sequence[Demand]) -> Reply:
        """As `serve.quotas.lease_book.LeaseBook.exchange`.

        Raises:
            ConnectionError: the actor does not answer; the next call looks for it again.
        """
        try:
            if self._actor is None:
                self._actor = await asyncio.to_thread(self._find)
            reply: Reply = await self._actor.exchange.remote(replica, demands)
        except RayError as error:
            self._actor = None
            raise ConnectionError(f"the book of limits '{self._name}': {error!r}") from error
        return reply

    def _find(self) -> Any:
        book = ray.remote(LeaseBook)
        # no processor of its own: it does microseconds of work a second
        return book.options(name=self._name, get_if_exists=True, num_cpus=0).remote()


def shared_quotas(service: str, replica: str, defaults: KeyLimits) -> SharedQuotas:
    """The limits of one replica of a service, within Ray."""
    return SharedQuotas(defaults, book=ActorBook(f"{service}-limits"), replica=replica)
