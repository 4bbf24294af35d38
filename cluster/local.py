"""A Ray cluster on this machine, for trying what a recipe does on several nodes.

A head and its workers are separate raylets with loopback addresses of their own, so Ray takes
them for machines, and nothing that they tell each other leaves this one. Ray itself listens on
all interfaces whatever it is told; token authentication is what keeps others out there.
"""

import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from cluster.nodes import head_command, node_environment, worker_command
from cluster.state import (
    ClusterState,
    default_state_dir,
    ensure_token,
    find_processes,
)
from ray_sft.core import ServeError

__all__ = ["down", "status", "up"]

logger = logging.getLogger(__name__)

_STARTS_WITHIN_S = 90.0
_STOPS_WITHIN_S = 15.0
_MOST_WORKERS = 16


def up(
    *,
    num_workers: int = 1,
    num_cpus: int | None = None,
    port: int = 6379,
    dashboard_port: int = 8265,
    state_dir: Path | None = None,
) -> ClusterState:
    """Starts a head and ``num_workers`` more nodes; a cluster that runs already is returned.

    Every node offers ``num_cpus`` processors, by default all that the machine has, so that a
    run which fits a machine fits each of them; they share the real ones.

    Raises:
        ServeError: a port is taken, another shape of cluster runs already, or Ray does not start.
    """
    folder = state_dir or default_state_dir()
    if not 0 <= num_workers <= _MOST_WORKERS:
        raise ServeError(f"{num_workers} workers: this machine is given 0 to {_MOST_WORKERS}.")
    running = ClusterState.read(folder)
    if running is not None:
        if find_processes(running.identity):
            return _same(running, num_workers)
        _sweep(running, folder)
    for wanted in (port, dashboard_port):
        _check_port(wanted)
    token_file = ensure_token(folder)
    state = ClusterState(
        identity=uuid.uuid4().hex,
        port=port,
        dashboard_port=dashboard_port,
        num_workers=num_workers,
        temp_dir=tempfile.mkdtemp(prefix="rsft-", dir="/tmp"),  # Ray's sockets need a short path
    )
    state.write(folder)
    try:
        _start(state, folder, token_file, num_cpus or os.cpu_count() or 1)
    except BaseException:
        _sweep(state, folder)
        raise
    logger.info(
        "cluster of %d nodes is up; dashboard and jobs at %s\n"
        "  ray-sft submit RECIPE\n"
        "  RAY_AUTH_MODE=token RAY_API_SERVER_ADDRESS=%s "
        "ray job submit --working-dir . -- ray-sft run RECIPE",
        num_workers + 1,
        state.address,
        state.address,
    )
    return state


def down(*, state_dir: Path | None = None) -> None:
    """Stops what `up` started, jobs included, and nothing else; nothing to do is no error."""
    folder = state_dir or default_state_dir()
    state = ClusterState.read(folder)
    if state is None:
        logger.info("no local cluster is up")
        return
    _sweep(state, folder)
    logger.info("the local cluster is down")


def status(*, state_dir: Path | None = None) -> str:
    """What runs, in words."""
    state = ClusterState.read(state_dir or default_state_dir())
    if state is None:
        return "No local cluster is up. Start one with 'ray-sft cluster up'."
    processes = find_processes(state.identity)
    if not processes:
        return "The local cluster has died. Clean up with 'ray-sft cluster down'."
    raylets = sum(process.name() == "raylet" for process in processes)
    return (
        f"Local cluster: {raylets} of {state.num_workers + 1} nodes, {len(processes)} processes, "
        f"dashboard and jobs at {state.address}, logs in {state.temp_dir}."
    )


def _start(state: ClusterState, folder: Path, token_file: Path, num_cpus: int) -> None:
    environment = node_environment(state, token_file, os.environ)
    token = token_file.read_text(encoding="utf-8")
    began = time.monotonic()
    logger.info("starting %d nodes ...", state.num_workers + 1)
    head = _spawn(
        head_command(state, num_cpus=num_cpus, ports=_free_ports(2)),
        environment,
        folder / "head.log",
    )
    _await_nodes(state, token, 1, head, folder / "head.log", began)
    for number in range(1, state.num_workers + 1):
        command = worker_command(state, number=number, num_cpus=num_cpus, ports=_free_ports(1))
        log = folder / f"worker-{number}.log"
        worker = _spawn(command, environment, log)
        _await_nodes(state, token, number + 1, worker, log, began)


def _spawn(
    command: Sequence[str], environment: Mapping[str, str], log: Path
) -> "subprocess.Popen[bytes]":
    """A process of its own session, so that Ctrl-C in this terminal does not reach it."""
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _await_nodes(
    state: ClusterState,
    token: str,
    wanted: int,
    process: "subprocess.Popen[bytes]",
    log: Path,
    began: float,
) -> None:
    """Returns when ``wanted`` nodes are alive and jobs are taken."""
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=state.address, headers=headers, trust_env=False) as client:
        while process.poll() is None:
            if _num_alive(client) >= wanted:
                process.returncode = 0  # let go of: it is to outlive this one, which is no leak
                return
            if time.monotonic() - began > _STARTS_WITHIN_S:
                raise ServeError(
                    f"the cluster did not start within {_STARTS_WITHIN_S:g} s. The end of its "
                    f"log:\n{_tail(log)}"
                )
            time.sleep(0.2)
    raise ServeError(f"Ray ended with status {process.returncode}:\n{_tail(log)}")


def _num_alive(client: httpx.Client) -> int:
    try:
        nodes = client.get("/nodes?view=summary")
        if nodes.status_code != 200 or client.get("/api/jobs/").status_code != 200:
            return 0
        summary = nodes.json()["data"]["summary"]
    except (httpx.HTTPError, KeyError, ValueError):
        return 0
    return sum(node.get("raylet", {}).get("state") == "ALIVE" for node in summary)


def _same(state: ClusterState, num_workers: int) -> ClusterState:
    if state.num_workers != num_workers:
        raise ServeError(
            f"a local cluster with {state.num_workers} workers is up already; {num_workers} were "
            "asked for. Stop it first: ray-sft cluster down."
        )
    logger.info("the cluster is up already; dashboard and jobs at %s", state.address)
    return state


def _sweep(state: ClusterState, folder: Path) -> None:
    """Ends every process of the cluster, politely and then not; removes its files."""
    began = time.monotonic()
    while processes := find_processes(state.identity):
        polite = time.monotonic() - began < _STOPS_WITHIN_S / 2
        # the commands that hold the nodes take the rest with them in order
        roots = [process for process in processes if polite and _is_root(process)]
        for process in roots or processes:
            _signal(process, polite=polite)
        psutil.wait_procs(processes, timeout=2)
        if time.monotonic() - began > _STOPS_WITHIN_S:
            alive = ", ".join(str(process.pid) for process in find_processes(state.identity))
            if alive:
                raise ServeError(f"processes {alive} of the cluster do not end. Kill them.")
    shutil.rmtree(state.temp_dir, ignore_errors=True)
    ClusterState.forget(folder)


def _is_root(process: psutil.Process) -> bool:
    try:
        return "ray.scripts.scripts" in process.cmdline()
    except psutil.Error:
        return False


def _signal(process: psutil.Process, *, polite: bool) -> None:
    try:
        if polite:
            process.terminate()
        else:
            process.kill()
    except psutil.NoSuchProcess:
        return


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ServeError(
                f"port {port} is in use ({error.strerror}): another Ray may run on this machine. "
                "Stop it, or choose other ports."
            ) from None


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _tail(log: Path, *, num_lines: int = 15) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-num_lines:])
