"""What the proxy says by itself: the real HAProxy, started as Ray starts it."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from serve.args import ServiceArgs
from serve.full_routes import FULL_HEADER, REFUSED_HEADER
from serve.proxy import proxy_settings

from .test_run import free_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Ray has HAProxy on Linux alone")

CONFIG = """
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
    errorfile 502 {folder}/500.http
    errorfile 503 {folder}/500.http
    errorfile 504 {folder}/500.http
frontend http_frontend
    bind 127.0.0.1:{port}
    use_backend gone if {{ path /known }}
    use_backend replica if {{ path_beg /v1/ }}
    default_backend default_backend
backend gone
    server gone 127.0.0.1:{nobody}
backend replica
    server replica 127.0.0.1:{replica}
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path '%[path]' not found."
"""
"""As Ray writes it, with one replica that is gone."""


class Replica(ThreadingHTTPServer):
    """Refuses every request for ``full`` by saying for how long, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.full_ms: dict[str, int] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Replica

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.path, headers))
        full_ms = self.server.full_ms.get(self.path)
        self.send_response(200 if full_ms is None else 429)
        if full_ms is not None:
            self.send_header(FULL_HEADER, str(full_ms))
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST  # noqa: N815 # the name that the library looks for

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def replica() -> Iterator[Replica]:
    with Replica() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(timeout=10)


@pytest.fixture
def url(tmp_path: Path, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("RAY_SERVE_HAPROXY_BINARY_PATH", raising=False)
    settings = proxy_settings(ServiceArgs(bundles={"intents": "anywhere"}), tmp_path)
    program = settings["RAY_SERVE_HAPROXY_BINARY_PATH"]
    folder = tmp_path / "haproxy" / "node"
    folder.mkdir()
    port = free_port()
    config = folder / "haproxy.cfg"
    values = {"port": port, "nobody": free_port(), "replica": replica.server_port}
    config.write_text(CONFIG.format(folder=folder, **values))
    process = subprocess.Popen([program, "-db", "-f", str(config)])
    try:
        _get(f"http://127.0.0.1:{port}/known")
        yield f"http://127.0.0.1:{port}"
        # the program has become HAProxy itself, whose number Ray compares
        assert "bin/haproxy" in Path(f"/proc/{process.pid}/cmdline").read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("path", ["/known", "/elsewhere"], ids=["no replica", "no routes yet"])
def test_where_nothing_can_answer_clients_are_told_to_ask_again(url: str, path: str) -> None:
    reply = _get(f"{url}{path}")
    assert reply.status_code == 503
    assert reply.headers["retry-after"] == "1"
    assert reply.headers["content-type"] == "application/json"
    error = reply.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "unavailable")


def _get(url: str) -> httpx.Response:
    ends_at = time.monotonic() + 20
    while True:
        try:
            return httpx.get(url, trust_env=False, timeout=20)
        except httpx.ConnectError:
            assert time.monotonic() < ends_at, "HAProxy did not start"
            time.sleep(0.02)


def test_a_route_that_is_full_is_refused_by_the_proxy_until_the_moment_that_the_replica_said(
    url: str, replica: Replica
) -> None:
    full = "/v1/classify"
    replica.full_ms[full] = 200
    with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
        first = client.post(full, content=b"{}")
        ends_at = time.monotonic() + 0.2
        assert (first.status_code, first.content) == (429, b"{}")
        assert FULL_HEADER not in first.headers, "which is between the two"
        refused = [client.post(full, content=b"x" * 10_000, headers=_id(n)) for n in range(5)]
        assert time.monotonic() < ends_at, "too slow to say anything"
        assert [path for path, _ in replica.asked] == [full]
        for number, reply in enumerate(refused):
            assert reply.status_code == 429
            assert reply.headers["retry-after"] == "1"
            assert reply.headers["content-type"] == "application/json"
            assert reply.headers["x-request-id"] == f"request-{number}"
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.json()["error"]["code"] == "queue_full"
        unnamed = client.post(full, content=b"{}")
        assert len(unnamed.headers["x-request-id"]) == 36
        # neither another route nor another method is concerned
        assert client.post("/v1/embeddings", content=b"{}").status_code == 200
        assert client.request("GET", full, content=b"{}").status_code == 429
        assert [path for path, _ in replica.asked] == [full, "/v1/embeddings", full]

        del replica.full_ms[full]
        while client.post(full, content=b"{}").status_code == 429:
            assert time.monotonic() < ends_at + 5, "it stays full for ever"
            time.sleep(0.01)
        assert time.monotonic() >= ends_at - 0.01


def test_the_replica_is_told_once_how_many_were_refused(url: str, replica: Replica) -> None:
    full, told = "/v1/classify", REFUSED_HEADER.decode()
    replica.full_ms[full] = 150
    with httpx.Client(base_url=url, trust_env=False, timeout=20) as client:
        forged = {told: "1000"}
        client.post(full, content=b"{}", headers=forged)
        num_refused = 0
        del replica.full_ms[full]
        while client.post(full, content=b"{}", headers=forged).status_code == 429:
            num_refused += 1
        client.post(full, content=b"{}", headers=forged)
    assert num_refused >= 1
    seen = [headers.get(told) for _, headers in replica.asked]
    assert seen == [None, str(num_refused), None], "and no client can say so"


def _id(number: int) -> dict[str, str]:
    return {"x-request-id": f"request-{number}"}
