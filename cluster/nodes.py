"""The commands and the environment of the nodes of a local cluster."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.state import MARKER, ClusterState

__all__ = ["head_command", "node_environment", "worker_command"]

_OBJECT_STORE_BYTES = 512 * 1024 * 1024


def head_command(state: ClusterState, *, num_cpus: int, ports: Sequence[int]) -> list[str]:
    """The command of the head node; ``ports`` are two free ones."""
    return [
        *_ray("--head", num_cpus=num_cpus, address=_address(0), agent_port=ports[0]),
        f"--port={state.port}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={state.dashboard_port}",
        f"--ray-client-server-port={ports[1]}",
        f"--temp-dir={state.temp_dir}",
    ]


def worker_command(
    state: ClusterState, *, number: int, num_cpus: int, ports: Sequence[int]
) -> list[str]:
    """The command of worker ``number``, counted from 1; ``ports`` is one free one."""
    head = f"--address={_address(0)}:{state.port}"
    return _ray(head, num_cpus=num_cpus, address=_address(number), agent_port=ports[0])


def _ray(first: str, *, num_cpus: int, address: str, agent_port: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        first,
        "--block",
        f"--node-ip-address={address}",
        f"--num-cpus={num_cpus}",
        f"--object-store-memory={_OBJECT_STORE_BYTES}",
        f"--dashboard-agent-listen-port={agent_port}",
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--disable-usage-stats",
    ]


def _address(number: int) -> str:
    """127.0.0.2 for the head: Ray replaces 127.0.0.1 by the address of the network."""
    return f"127.0.0.{number + 2}"


def node_environment(
    state: ClusterState, token_file: Path, outer: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a node, which its jobs inherit."""
    kept = {
        name: value
        for name, value in outer.items()
        if name not in ("RAY_AUTH_TOKEN", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
    }
    commands = str(Path(sys.executable).parent)  # so that a job finds ray-sft
    return kept | {
        MARKER: state.identity,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": os.pathsep.join([commands, outer.get("PATH", os.defpath)]),
    }
