"""What is closed at the end of a ``with`` block."""

from types import TracebackType
from typing import Self

__all__ = ["AsyncClosing", "Closing"]


class Closing:
    """Closes itself at the end of ``with``."""

    def close(self) -> None:
        """Closes the connections; a subclass says which."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        """The object itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the connections."""
        self.close()


class AsyncClosing:
    """Closes itself at the end of ``async with``."""

    async def aclose(self) -> None:
        """Closes the connections; a subclass says which."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """The object itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the connections."""
        await self.aclose()
