"""Pieces of a reply as they come; whoever leaves the loop closes the connection."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Generic, TypeVar

from apps.client.closing import AsyncClosing, Closing

__all__ = ["AsyncStream", "Stream"]

T = TypeVar("T")


class Stream(Closing, Generic[T]):
    """Asks when the first piece is wanted.

    A loop that is left early closes the connection as soon as nothing holds the stream; ``with``
    closes it at the end of the block, whatever holds it.
    """

    def __init__(self, pieces: Generator[T, None, None]) -> None:
        """Gives ``pieces``."""
        self._pieces = pieces

    def __iter__(self) -> Iterator[T]:
        """The stream itself."""
        return self

    def __next__(self) -> T:
        """The next piece.

        Raises:
            ServiceError: the service is away, refuses, or breaks off in the middle.
        """
        return next(self._pieces)

    def close(self) -> None:
        """Closes the connection, which frees the service's slot."""
        self._pieces.close()


class AsyncStream(AsyncClosing, Generic[T]):
    """The same for ``async for`` and ``async with``."""

    def __init__(self, pieces: AsyncGenerator[T, None]) -> None:
        """Gives ``pieces``."""
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[T]:
        """The stream itself."""
        return self

    async def __anext__(self) -> T:
        """The next piece.

        Raises:
            ServiceError: the service is away, refuses, or breaks off in the middle.
        """
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """Closes the connection, which frees the service's slot."""
        await self._pieces.aclose()
