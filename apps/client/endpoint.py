"""One description of a call for both flavours of the client, with types that editors see.

A function that makes a `Call` becomes a method: of a part of the waiting client it returns the
reply, of a part of the other one something to ``await``.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from types import MethodType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Self, TypeVar, overload

from apps.client.async_transport import AsyncTransport
from apps.client.call import Call, StreamCall
from apps.client.streams import AsyncStream, Stream
from apps.client.transport import Transport

__all__ = ["AsyncPart", "Endpoint", "Part", "StreamEndpoint", "endpoint", "stream_endpoint"]

P = ParamSpec("P")
T = TypeVar("T")


class Part:
    """What asks and waits."""

    def __init__(self, transport: Transport) -> None:
        """Asks through ``transport``."""
        self._transport = transport


class AsyncPart:
    """What asks and is awaited; from one event loop only."""

    def __init__(self, transport: AsyncTransport) -> None:
        """Asks through ``transport``."""
        self._transport = transport


class _Method:
    """Hands the description of a call to the transport of the part that it is a method of."""

    def __init__(self, describe: Callable[..., Any], way: Literal["send", "stream"]) -> None:
        @wraps(describe)
        def ask(part: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(part._transport, way)(describe(part, *args, **kwargs))

        self._ask = ask
        self.__doc__ = describe.__doc__

    def _of(self, part: Any) -> Any:
        return self if part is None else MethodType(self._ask, part)


class Endpoint(_Method, Generic[P, T]):
    """A method that is asked and answered once."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Call[T]]) -> None:
        """``describe`` gets the arguments of the method."""
        super().__init__(describe, "send")

    @overload
    def __get__(self, part: None, owner: type) -> Self: ...
    @overload
    def __get__(self, part: Part, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, part: AsyncPart, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, part: Any, owner: type) -> Any:
        """The method of a part."""
        return self._of(part)


class StreamEndpoint(_Method, Generic[P, T]):
    """A method whose answer comes in pieces."""

    def __init__(self, describe: Callable[Concatenate[Any, P], StreamCall[T]]) -> None:
        """``describe`` gets the arguments of the method."""
        super().__init__(describe, "stream")

    @overload
    def __get__(self, part: None, owner: type) -> Self: ...
    @overload
    def __get__(self, part: Part, owner: type) -> Callable[P, Stream[T]]: ...
    @overload
    def __get__(self, part: AsyncPart, owner: type) -> Callable[P, AsyncStream[T]]: ...
    def __get__(self, part: Any, owner: type) -> Any:
        """The method of a part."""
        return self._of(part)


def endpoint(describe: Callable[Concatenate[Any, P], Call[T]]) -> Endpoint[P, T]:
    """Makes a method of the description of a call."""
    return Endpoint(describe)


def stream_endpoint(describe: Callable[Concatenate[Any, P], StreamCall[T]]) -> StreamEndpoint[P, T]:
    """Makes a method of the description of a streamed call."""
    return StreamEndpoint(describe)
