"""One connection that is kept: a request at a time, at the least cost in processor time.

Generator and service often share the cores of one machine. Against a server that does nothing, over
32 connections on uvloop, a request through httpx takes 2.7 ms of a core, one through aiohttp 0.07
ms, and one through this 0.03 ms, with all that is kept of its reply.
"""

import asyncio
import ssl
from time import perf_counter
from typing import cast

import httptools

from apps.bench.outcome import ReplyReader
from apps.bench.wire import Address

__all__ = ["Connection"]

_LENGTHS = {b"content-length", b"transfer-encoding"}


class Connection:
    """Opens itself when it is first asked, and again where the service has closed it."""

    def __init__(self, address: Address, *, timeout_s: float) -> None:
        """To ``address``; no request takes longer than ``timeout_s``."""
        self._address = address
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if address.is_secure else None
        self._http: _Http | None = None

    async def ask(self, request: bytes, *, start: float) -> ReplyReader:
        """What came of a request that was to be sent at ``start``; it never raises."""
        reader = ReplyReader(start)
        try:
            async with asyncio.timeout(self._timeout_s):
                await (await self._opened()).ask(request, reader)
        except TimeoutError:
            reader.fail("timeout", perf_counter())
            self.close()
        except ConnectionRefusedError:
            reader.fail("connection_refused", perf_counter())
        except (OSError, httptools.HttpParserError):
            reader.fail("connection_broken", perf_counter())
            self.close()
        return reader

    def close(self) -> None:
        """Lets go of the socket."""
        if self._http is not None:
            self._http.abort()
            self._http = None

    async def _opened(self) -> "_Http":
        if self._http is None or self._http.is_closed:
            _, self._http = await asyncio.get_running_loop().create_connection(
                _Http, self._address.host, self._address.port, ssl=self._tls
            )
        return self._http


class _Http(asyncio.Protocol):
    """HTTP/1.1 over one socket; the methods named ``on_`` are called by the parser."""

    def __init__(self) -> None:
        self.is_closed = False
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._has_head = False
        self._reader: ReplyReader | None = None
        self._answered: asyncio.Future[None] | None = None

    async def ask(self, request: bytes, reader: ReplyReader) -> None:
        self._reader = reader
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._answered

    def abort(self) -> None:
        self.is_closed = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(error)
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closed = True
        if error is None and self._has_head and not _LENGTHS & self._headers.keys():
            self.on_message_complete()  # such a reply ends with its connection
        self._end(error if isinstance(error, OSError) else ConnectionResetError())

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._has_head = True
        if self._reader is not None:
            self._reader.take_head(self._parser.get_status_code(), self._headers)

    def on_body(self, chunk: bytes) -> None:
        if self._reader is not None:
            self._reader.take_body(chunk, perf_counter())

    def on_message_complete(self) -> None:
        if self._reader is not None:
            self._reader.finish(perf_counter())
        if not self._parser.should_keep_alive():
            self.abort()
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        self._headers, self._has_head = {}, False
        self._reader = None
        answered, self._answered = self._answered, None
        if answered is None or answered.done():
            return
        if error is None:
            answered.set_result(None)
        else:
            answered.set_exception(error)
