"""The two clients: the same calls, one waiting for replies and one awaited."""

from copy import copy
from dataclasses import replace
from typing import Self

from apps.client.address import check_key, check_url, warn_of_clear_text
from apps.client.assistant import AssistantClient, AsyncAssistantClient
from apps.client.async_transport import AsyncTransport
from apps.client.closing import AsyncClosing, Closing
from apps.client.endpoint import AsyncPart, Part
from apps.client.generation import GenerationCalls
from apps.client.monitor import AsyncMonitorClient, MonitorClient
from apps.client.operation import OperationCalls
from apps.client.options import Options
from apps.client.ranking import RankingCalls
from apps.client.recommend import AsyncRecommendClient, RecommendClient
from apps.client.retries import RetryPolicy
from apps.client.texts import TextCalls
from apps.client.transport import Transport

__all__ = ["AsyncClient", "Client"]


_RETRY = RetryPolicy()


class _Calls(OperationCalls, TextCalls, RankingCalls, GenerationCalls):
    """What both clients ask, and how both are opened."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        connect_timeout_s: float = 3.0,
        max_connections: int = 100,
        retry: RetryPolicy = _RETRY,
    ) -> None:
        """A client of the service at ``url``; nothing is sent yet.

        Args:
            url: such as ``https://models.example.com``.
            api_key: goes with every call; None: that of RAY_SFT_API_KEY, empty: none.
            timeout_s: of a call with all its attempts; of a stream to its first event, and between
                two.
            connect_timeout_s: of one attempt to connect.
            max_connections: at the same time; further calls wait for one.
            retry: how often and how long calls that failed are tried again.

        Raises:
            ValueError: one of them cannot be meant; the message says what can.
        """
        options = Options(
            url=check_url(url),
            api_key=check_key(api_key),
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            max_connections=max_connections,
            retry=retry,
        )
        if options.api_key:
            warn_of_clear_text(options.url, stacklevel=2)
        self._options = options
        self._open(options)

    def _open(self, options: Options) -> None:
        raise NotImplementedError

    def _share(self, options: Options) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        """The class and the URL."""
        return f"<{type(self).__name__} of {self._options.url}>"

    def with_options(
        self, *, timeout_s: float | None = None, max_attempts: int | None = None
    ) -> Self:
        """The same client with other limits; connections and the budget of retries are shared.

        Args:
            timeout_s: as of the client; None leaves it as it is.
            max_attempts: of a call, the first included; None leaves them as they are.
        """
        options = self._options
        if timeout_s is not None:
            options = replace(options, timeout_s=timeout_s)
        if max_attempts is not None:
            options = replace(options, retry=replace(options.retry, max_attempts=max_attempts))
        twin = copy(self)
        twin._options = options
        twin._share(options)
        return twin


class Client(_Calls, Part, Closing):
    """Asks one service and waits; safe between threads. Close it, or use it with ``with``.

    Example:
        >>> client = Client("http://127.0.0.1:8000", api_key="rsft-...")
        >>> client.classify("Where is my parcel?").label  # doctest: +SKIP
        'delivery'
    """

    def _open(self, options: Options) -> None:
        self._attach(Transport(options))

    def _share(self, options: Options) -> None:
        self._attach(Transport(options, shared=self._transport))

    def _attach(self, transport: Transport) -> None:
        self._transport = transport
        self.assistant = AssistantClient(transport)
        self.monitor = MonitorClient(transport)
        self.recommend = RecommendClient(transport)

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()


class AsyncClient(_Calls, AsyncPart, AsyncClosing):
    """Asks one service and is awaited; from one event loop. Close it, or use ``async with``."""

    def _open(self, options: Options) -> None:
        self._attach(AsyncTransport(options))

    def _share(self, options: Options) -> None:
        self._attach(AsyncTransport(options, shared=self._transport))

    def _attach(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self.assistant = AsyncAssistantClient(transport)
        self.monitor = AsyncMonitorClient(transport)
        self.recommend = AsyncRecommendClient(transport)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._transport.aclose()
