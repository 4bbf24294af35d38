"""What the proxy says by itself: the real HAProxy, started as Ray starts it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serve.args import ServiceArgs
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
    use_backend known if {{ path /known }}
    default_backend default_backend
backend known
    server gone 127.0.0.1:{nobody}
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path '%[path]' not found."
"""
"""As Ray writes it, with one replica that is gone."""


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("RAY_SERVE_HAPROXY_BINARY_PATH", raising=False)
    settings = proxy_settings(ServiceArgs(bundles={"intents": "anywhere"}), tmp_path)
    program = settings["RAY_SERVE_HAPROXY_BINARY_PATH"]
    folder = tmp_path / "haproxy" / "node"
    folder.mkdir()
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(folder=folder, port=port, nobody=free_port()))
    process = subprocess.Popen([program, "-db", "-f", str(config)])
    try:
        yield f"http://127.0.0.1:{port}"
        # the program has become HAProxy itself, whose number Ray compares
        assert "bin/haproxy" in Path(f"/proc/{process.pid}/cmdline").read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("path", ["/known", "/v1/classify"], ids=["no replica", "no routes yet"])
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
