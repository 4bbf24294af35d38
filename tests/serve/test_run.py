"""The service as it runs: Ray Serve, its proxy, signals. Each start takes about 20 seconds."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from ray_sft.bundle import Bundle
from ray_sft.core import BundleError, ServeError
from serve import ServiceArgs, run_service

from .conftest import TEXTS

MESSAGES = [{"role": "user", "content": TEXTS[0]}]
PROGRAM = """
import sys
from serve import ServiceArgs, run_service
args = ServiceArgs.model_validate_json(sys.argv[1])
run_service(args, on_ready=lambda url: print("READY", url, flush=True))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Running:
    process: subprocess.Popen
    url: str
    key: str
    errors: Path


@contextmanager
def service(args: ServiceArgs, folder: Path) -> Iterator[Running]:
    """A service in a process and session of its own; whatever happens, it is gone afterwards."""
    args = args.model_copy(update={"port": free_port(), "keys_file": str(folder / "keys.json")})
    environment = {name: value for name, value in os.environ.items() if "RAY" not in name}
    errors = folder / "errors.txt"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, args.model_dump_json()],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env=environment,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        line = next((line for line in process.stdout if line.startswith("READY")), "")
        assert line, errors.read_text()[-3000:]
        key = errors.read_text().split("New API key", 1)[1].splitlines()[1].strip()
        yield Running(process, line.split()[1], key, errors)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()
            raise
        process.stdout.close()


def _check_priority(running: Running) -> None:
    """Ray would have every replica give way to whatever else runs on the machine."""
    found = psutil.Process(running.process.pid).children(recursive=True)
    niceness = {process.nice() for process in found if "ServeReplica" in process.cmdline()[0]}
    assert niceness == {psutil.Process().nice()}


def stop_and_list_what_is_left(running: Running, how: signal.Signals) -> list[str]:
    """Command lines of processes that the service started and that outlive it."""
    started = psutil.Process(running.process.pid).children(recursive=True)
    assert any("haproxy" in process.name() for process in started) or len(started) > 3
    running.process.send_signal(how)
    assert running.process.wait(timeout=60) == 0, running.errors.read_text()[-3000:]
    _, alive = psutil.wait_procs(started, timeout=10)
    return [" ".join(process.cmdline()) for process in alive if process.is_running()]


def can_listen(url: str) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1]))) != 0


@pytest.mark.ray
def test_the_haproxy_profile_from_start_to_sigterm(
    service_args: ServiceArgs, tmp_path: Path
) -> None:
    with service(service_args, tmp_path) as running:
        _check_keys_and_limits(running)
        _check_chat(running)
        _check_only_loopback(running)
        _check_priority(running)
        left = stop_and_list_what_is_left(running, signal.SIGTERM)
        assert left == []
        assert can_listen(running.url)


@pytest.mark.ray
def test_the_plain_proxy_from_start_to_ctrl_c(service_args: ServiceArgs, tmp_path: Path) -> None:
    with service(service_args.model_copy(update={"proxy": "plain"}), tmp_path) as running:
        _check_keys_and_limits(running)
        _check_chat(running)
        assert stop_and_list_what_is_left(running, signal.SIGINT) == []
        assert can_listen(running.url)


def _check_keys_and_limits(running: Running) -> None:
    with httpx.Client(base_url=running.url, timeout=30, trust_env=False) as client:
        assert client.get("/readyz").json()["status"] == "ready"
        assert client.get("/v1/models").status_code == 401
        client.headers["authorization"] = f"Bearer {running.key}"
        reply = client.post("/v1/classify", json={"input": list(TEXTS)})
        assert reply.status_code == 200, reply.text
        assert len(reply.json()["data"]) == len(TEXTS)
        assert len(reply.headers.get_list("x-request-id")) == 1
        big = client.post("/v1/classify", content=b"x" * 9000)
        assert big.status_code == 413
        assert big.json()["error"]["code"] == "body_too_large"
        assert client.get("/v1/nothing").status_code == 404


def _check_chat(running: Running) -> None:
    with openai.OpenAI(
        base_url=f"{running.url}/v1", api_key=running.key, max_retries=0, timeout=60
    ) as client:
        whole = client.chat.completions.create(model="replies", messages=MESSAGES)
        events = client.chat.completions.create(model="replies", messages=MESSAGES, stream=True)
        streamed = "".join(event.choices[0].delta.content or "" for event in events)
        assert streamed == whole.choices[0].message.content
        for seed in range(4):  # twice as many as slots, each left after its first event
            left = client.chat.completions.create(
                model="replies", messages=MESSAGES, stream=True, temperature=1.0, seed=seed
            )
            next(iter(left))
            left.close()
    idle = 'ray_sft_active_slots{model="replies"} 0.0'
    headers = {"authorization": f"Bearer {running.key}"}
    ends_at = time.monotonic() + 10
    while idle not in httpx.get(f"{running.url}/metrics", headers=headers, trust_env=False).text:
        assert time.monotonic() < ends_at, "a client that left holds its slot"
        time.sleep(0.05)


def _check_only_loopback(running: Running) -> None:
    """Nothing that answers requests listens on the network."""
    port = int(running.url.rsplit(":", 1)[1])
    family = {process.pid for process in psutil.Process(running.process.pid).children(True)}
    listening = [
        connection.laddr
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.pid in family
    ]
    requests = [address for address in listening if address.port == port or address.port >= 30000]
    assert any(address.port == port for address in requests)
    ingress = [address for address in requests if address.port in (port, *range(30000, 31000))]
    assert {address.ip for address in ingress} == {"127.0.0.1"}


@pytest.mark.ray
def test_a_service_that_is_stopped_while_it_starts_leaves_nothing(
    classifier_bundle: Bundle, tmp_path: Path
) -> None:
    args = ServiceArgs(
        bundles={"intents": str(classifier_bundle.path)},
        port=free_port(),
        num_cpus=1,
        keys_file=str(tmp_path / "keys.json"),
    )
    environment = {name: value for name, value in os.environ.items() if "RAY" not in name}
    with (tmp_path / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, args.model_dump_json()],
            env=environment,
            stdout=output,
            stderr=output,
        )
        try:
            ends_at = time.monotonic() + 60
            while len(started := psutil.Process(process.pid).children(recursive=True)) < 3:
                assert time.monotonic() < ends_at, (tmp_path / "output.txt").read_text()
                time.sleep(0.05)
            commands = " ".join(part for child in started for part in child.cmdline())
            folders = set(re.findall(r"/tmp/ray-sft-\w{8}(?=/)", commands))
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0, (tmp_path / "output.txt").read_text()
        finally:
            process.kill()
            process.wait()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
    assert len(folders) == 1
    assert not Path(folders.pop()).exists()


@pytest.mark.ray
def test_a_model_that_does_not_pass_its_check_ends_the_start(
    drifted_bundle: Path, tmp_path: Path
) -> None:
    args = ServiceArgs(
        bundles={"intents": str(drifted_bundle)},
        port=free_port(),
        num_cpus=1,
        keys_file=str(tmp_path / "keys.json"),
    )
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, args.model_dump_json()],
        env={name: value for name, value in os.environ.items() if "RAY" not in name},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode != 0
    assert "READY" not in done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert "ServeError: the service did not start" in last, done.stderr[-3000:]
    assert "answered differently" in last


def test_a_port_in_use_is_told_before_anything_starts(classifier_bundle: Bundle) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        args = ServiceArgs(bundles={"intents": str(classifier_bundle.path)}, port=port)
        with pytest.raises(ServeError, match=rf"127.0.0.1:{port}: Address already in use.*--port"):
            run_service(args)


def test_a_damaged_bundle_is_told_before_anything_starts(damaged_bundle: Path) -> None:
    args = ServiceArgs(bundles={"intents": str(damaged_bundle)}, port=free_port())
    with pytest.raises(BundleError, match="is damaged"):
        run_service(args)
