"""A monitor on SQLite and on a PostgreSQL of its own, with a model that looks for words."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytest_asyncio

from serve.monitor import AlertArgs, MonitorArgs
from serve.monitor.monitor import Monitor
from serve.monitor.store import Store
from tests.postgresql import empty_database, postgresql

from .words import read_words

__all__ = ["postgresql"]

SECRET = b"a-secret-that-only-tests-use"
NOON = 1_750_032_000
"""2025-06-16 00:00 UTC in seconds, the beginning of a bucket."""


@dataclass
class Clock:
    """Epoch seconds that pass when a test says so."""

    now: float = NOON + 400 * 86_400

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/monitor.db"
    socket_dir = request.getfixturevalue("postgresql")
    return empty_database(socket_dir)


@pytest.fixture
def args(database: str) -> MonitorArgs:
    return MonitorArgs(
        model="words",
        database=database,
        queue_wait_s=0.0,
        alerts=AlertArgs(warmup_buckets=4, warmup_items=10),
    )


@pytest.fixture
def store(args: MonitorArgs) -> Iterator[Store]:
    opened = Store(args)
    opened.prepare()
    yield opened
    opened.close()


@pytest_asyncio.fixture
async def monitor(args: MonitorArgs, clock: Clock) -> AsyncIterator[Monitor]:
    opened = Monitor(read_words, Store(args), args, clock=clock)
    await opened.open()
    yield opened
    await opened.close()


@dataclass
class Receiver:
    """A real HTTP server that answers what it is told to and remembers what it got."""

    answers: list[int] = field(default_factory=list)
    """Status of the next replies; 200 where none is left."""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


def receiving(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.paths.append(self.path)
            receiver.got.append(({name.lower(): v for name, v in self.headers.items()}, body))
            status = receiver.answers.pop(0) if receiver.answers else 200
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", f"http://127.0.0.1:{receiver.port}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    return Handler


@pytest.fixture
def serve_receiver() -> Iterator[Callable[..., Receiver]]:
    """Starts receivers; the argument prepares the socket of one."""
    servers: list[ThreadingHTTPServer] = []

    def start(prepare: Callable[[ThreadingHTTPServer], None] = lambda _: None) -> Receiver:
        receiver = Receiver()
        server = ThreadingHTTPServer(("127.0.0.1", 0), receiving(receiver))
        prepare(server)
        receiver.port = server.server_address[1]
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return receiver

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def receiver(serve_receiver: Callable[..., Receiver]) -> Receiver:
    return serve_receiver()
