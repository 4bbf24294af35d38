"""Other servers around the same model: started, waited for, stopped."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

__all__ = ["free_port", "start_peer"]

_STARTUP_S = 240.0


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def start_peer(
    command: Sequence[str | Path],
    *,
    url: str,
    body: Mapping[str, object],
    log: Path,
    folder: Path | None = None,
) -> Iterator[None]:
    """Runs ``command`` in ``folder`` until the block ends.

    Returns once a POST of ``body`` is answered by 200.

    Everything that the command starts is stopped with it.
    """
    environment = {name: value for name, value in os.environ.items() if "RAY" not in name}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            list(command),
            stdout=file,
            stderr=file,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
    try:
        _await(url, body, process, log)
        yield
    finally:
        started = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _, alive = psutil.wait_procs(started, timeout=10)
        for one in alive:
            one.kill()


def _await(
    url: str, body: Mapping[str, object], process: "subprocess.Popen[bytes]", log: Path
) -> None:
    ends_at = time.monotonic() + _STARTUP_S
    with httpx.Client(trust_env=False, timeout=10.0) as client:
        while time.monotonic() < ends_at and process.poll() is None:
            try:
                if client.post(url, json=dict(body)).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
    said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
    raise SystemExit(f"the peer did not start: {said}")
