"""A server below HTTP: it answers with whatever bytes a test says, or breaks the connection off."""

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "RawServer",
    "Request",
    "break_off",
    "dribble",
    "event",
    "http",
    "raw",
    "refusal",
    "silence",
    "stream",
]

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Writes a reply; the connection stays open for the next request unless it closes it."""

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """What came in."""

    head: str
    body: bytes

    def header(self, name: str) -> str | None:
        found = re.search(rf"^{name}: (.*?)\r?$", self.head, re.IGNORECASE | re.MULTILINE)
        return found[1] if found else None


@dataclass
class RawServer:
    """Gives each request the next of ``answers``, and the last one for ever."""

    answers: Sequence[Answer]
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    num_connections: int = 0
    num_left: int = 0
    """Clients that closed the connection before their answer had ended."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator["RawServer"]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        server = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(_stop(server), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            early = b""
            while not writer.is_closing():
                self.requests.append(await _read(reader, early))
                early = await self._answer(len(self.requests), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client closed the connection between two requests, or the test is over
        finally:
            writer.close()

    async def _answer(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes:
        """What came of the next request meanwhile."""
        answer = self.answers[min(number, len(self.answers)) - 1]
        answering = asyncio.ensure_future(answer(writer))
        reading = asyncio.ensure_future(reader.read(1))
        await asyncio.wait((answering, reading), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done() and not reading.result():
            self.num_left += 1
            answering.cancel()
            raise ConnectionResetError
        await answering
        reading.cancel()
        await asyncio.wait((reading,))
        return b"" if reading.cancelled() else reading.result()


async def _read(reader: asyncio.StreamReader, early: bytes) -> Request:
    head = (early + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
    return Request(head, await reader.readexactly(int(length[1]) if length else 0))


async def _stop(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def http(status: int, body: Any, **headers: str) -> Answer:
    """A whole reply; ``retry_after`` in the headers stands for retry-after."""
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + content)


def refusal(status: int, code: str = "refused", **headers: str) -> Answer:
    """An error in the service's shape."""
    return http(status, {"error": {"message": f"not now ({status}).", "code": code}}, **headers)


def raw(*chunks: bytes, close: bool = False, gap_s: float = 0.0) -> Answer:
    """Bytes as they are, each chunk by itself."""

    async def write(writer: asyncio.StreamWriter) -> None:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(gap_s)
        if close:
            writer.close()

    return write


def dribble(content: bytes, gap_s: float) -> Answer:
    """A byte now and then."""
    return raw(*(bytes([one]) for one in content), gap_s=gap_s)


def event(tree: Any) -> bytes:
    """A server-sent event."""
    data = tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False)
    return f"data: {data}\n\n".encode()


def stream(*chunks: bytes, gap_s: float = 0.0) -> Answer:
    """A stream of these bytes, at whose end the connection closes."""
    return raw(STREAM_HEAD, *chunks, close=True, gap_s=gap_s)


async def break_off(writer: asyncio.StreamWriter) -> None:
    """No reply at all."""
    writer.close()


async def silence(writer: asyncio.StreamWriter) -> None:
    """No reply, and the connection stays open."""
    del writer
    await asyncio.sleep(3600)
