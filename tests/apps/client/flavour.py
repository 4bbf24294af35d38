"""Both clients under one face, so that a test holds for either."""

import asyncio
from collections.abc import Callable
from typing import Any

from apps.client import AsyncClient, Client

__all__ = ["FLAVOURS", "Async", "Flavour", "Sync"]

Ask = Callable[[Any], Any]


class Sync:
    """The client that waits."""

    def ask(self, url: str, *calls: Ask, **options: Any) -> list[Any]:
        """The results of calls that follow each other on one client."""
        with Client(url, **options) as client:
            return [call(client) for call in calls]

    def collect(self, url: str, call: Ask, into: list[Any], **options: Any) -> None:
        """Puts the pieces of a stream into a list, which keeps those before an error."""
        with Client(url, **options) as client:
            for piece in call(client):
                into.append(piece)

    def leave(self, url: str, call: Ask, *, then: Callable[[], Any], **options: Any) -> Any:
        """Leaves a stream after its first piece; ``then`` is done while the client is open."""
        with Client(url, **options) as client:
            for _ in call(client):
                break
            return then()

    def hold(self, url: str, call: Ask, other: Ask, **options: Any) -> Any:
        """The result of another call while a stream is held after its first piece."""
        with Client(url, **options) as client, call(client) as stream:
            next(stream)
            return other(client)


class Async:
    """The client that is awaited."""

    def ask(self, url: str, *calls: Ask, **options: Any) -> list[Any]:
        async def run() -> list[Any]:
            async with AsyncClient(url, **options) as client:
                return [await call(client) for call in calls]

        return asyncio.run(run())

    def collect(self, url: str, call: Ask, into: list[Any], **options: Any) -> None:
        async def run() -> None:
            async with AsyncClient(url, **options) as client:
                async for piece in call(client):
                    into.append(piece)

        asyncio.run(run())

    def leave(self, url: str, call: Ask, *, then: Callable[[], Any], **options: Any) -> Any:
        async def run() -> Any:
            async with AsyncClient(url, **options) as client:
                async for _ in call(client):
                    break
                return await asyncio.to_thread(then)

        return asyncio.run(run())

    def hold(self, url: str, call: Ask, other: Ask, **options: Any) -> Any:
        async def run() -> Any:
            async with AsyncClient(url, **options) as client, call(client) as stream:
                await anext(stream)
                return await other(client)

        return asyncio.run(run())


Flavour = Sync | Async
FLAVOURS = {"sync": Sync(), "async": Async()}
