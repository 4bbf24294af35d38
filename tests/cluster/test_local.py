"""Commands, environment and refusals of the local cluster, without starting Ray."""

import logging
import socket
from pathlib import Path

import pytest

from cluster import down, status, up
from cluster.nodes import head_command, node_environment, worker_command
from cluster.state import MARKER, ClusterState
from ray_sft.core import ServeError

STATE = ClusterState(
    identity="0123456789", port=6379, dashboard_port=8265, num_workers=2, temp_dir="/tmp/rsft-x"
)


def test_nodes_have_loopback_addresses_of_their_own():
    head = head_command(STATE, num_cpus=2, ports=[1, 2])
    workers = [worker_command(STATE, number=n, num_cpus=2, ports=[3]) for n in (1, 2)]
    assert "--head" in head
    assert "--dashboard-host=127.0.0.1" in head
    for worker in workers:
        assert "--address=127.0.0.2:6379" in worker
    addresses = [
        part.partition("=")[2]
        for command in (head, *workers)
        for part in command
        if part.startswith("--node-ip-address")
    ]
    assert addresses == ["127.0.0.2", "127.0.0.3", "127.0.0.4"]


def test_the_environment_asks_for_tokens_and_drops_what_would_override_them():
    outer = {"RAY_AUTH_TOKEN": "x", "RAY_ADDRESS": "y", "PATH": "/bin", "LANG": "C"}
    inner = node_environment(STATE, Path("/state/auth_token"), outer)
    assert inner["RAY_AUTH_MODE"] == "token"
    assert inner["RAY_AUTH_TOKEN_PATH"] == "/state/auth_token"
    assert inner[MARKER] == STATE.identity
    assert inner["LANG"] == "C"
    assert inner["PATH"].endswith(":/bin")
    assert not {"RAY_AUTH_TOKEN", "RAY_ADDRESS"} & set(inner)


def test_a_port_in_use_is_told_and_nothing_is_left(tmp_path, free_ports):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_ports[0]))
        taken.listen()
        with pytest.raises(ServeError, match=f"port {free_ports[0]} is in use"):
            up(port=free_ports[0], dashboard_port=free_ports[1], state_dir=tmp_path)
    assert ClusterState.read(tmp_path) is None


@pytest.mark.parametrize("num_workers", [-1, 17])
def test_too_many_workers_are_refused(tmp_path, num_workers):
    with pytest.raises(ServeError, match=str(num_workers)):
        up(num_workers=num_workers, state_dir=tmp_path)


def test_down_without_a_cluster_is_no_error(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="cluster")
    down(state_dir=tmp_path)
    assert "no local cluster is up" in caplog.text
    assert "No local cluster is up" in status(state_dir=tmp_path)


def test_a_cluster_that_died_is_told_and_cleaned_up(tmp_path):
    temp_dir = tmp_path / "session"
    temp_dir.mkdir()
    STATE.model_copy(update={"temp_dir": str(temp_dir)}).write(tmp_path)
    assert "has died" in status(state_dir=tmp_path)
    down(state_dir=tmp_path)
    assert ClusterState.read(tmp_path) is None
    assert not temp_dir.exists()
