"""A real cluster of two nodes on ports of its own: jobs, tokens, and that nothing is left."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from cluster import down, status, submit, up
from cluster.state import ClusterState, find_processes
from ray_sft.core import ServeError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]


def _free_ports():
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("", 0))
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(home))
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        folder = tmp_path_factory.mktemp("state")
        port, dashboard_port = _free_ports()
        state = up(port=port, dashboard_port=dashboard_port, num_cpus=1, state_dir=folder)
        try:
            yield state, folder, home
        finally:
            down(state_dir=folder)
        assert find_processes(state.identity) == []
        assert not Path(state.temp_dir).exists()
        assert ClusterState.read(folder) is None
        leftover = [p.cmdline() for p in psutil.process_iter() if _names(p, state.temp_dir)]
        assert leftover == []


def _names(process, text):
    try:
        return any(text in part for part in process.cmdline())
    except psutil.Error:
        return False


def _ray(state, home, *arguments):
    """Ray's own command with the environment that the page of instructions names."""
    environment = os.environ | {
        "HOME": str(home),
        "RAY_AUTH_MODE": "token",
        "RAY_API_SERVER_ADDRESS": state.address,
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def test_two_nodes_are_up_and_up_again_is_the_same(cluster):
    state, folder, _ = cluster
    assert "2 of 2 nodes" in status(state_dir=folder)
    assert up(num_workers=1, state_dir=folder) == state
    with pytest.raises(ServeError, match="1 workers is up already; 2"):
        up(num_workers=2, state_dir=folder)


@pytest.mark.parametrize(
    ("headers", "code"), [({}, 401), ({"authorization": f"Bearer {'0' * 64}"}, 403)]
)
def test_nobody_gets_in_without_the_token(cluster, headers, code):
    state, _, _ = cluster
    for path in ("/api/jobs/", "/nodes?view=summary", "/api/serve/applications/"):
        reply = httpx.get(state.address + path, headers=headers, trust_env=False)
        assert reply.status_code == code, path


@pytest.mark.parametrize("status", [0, 3])
def test_the_plain_command_runs_on_both_nodes(cluster, tmp_path, status):
    state, _, home = cluster
    (tmp_path / "job.py").write_text(
        "import ray\n"
        "ray.init()\n"
        "print('nodes', len(ray.nodes()), 'cpus', ray.cluster_resources()['CPU'])\n"
        f"raise SystemExit({status})\n"
    )
    folder = str(tmp_path)
    done = _ray(state, home, "job", "submit", "--working-dir", folder, "--", "python", "job.py")
    assert "nodes 2 cpus 2.0" in done.stdout + done.stderr
    assert (done.returncode == 0) == (status == 0)


def test_submit_streams_the_log_and_returns_the_exit_status(cluster, tmp_path, capfd):
    _, folder, _ = cluster
    recipe = {
        "name": "broken",
        "tasks": {"intent": {"kind": "sequence_classification"}},
        "data": {"intent": {"train": {"source": "csv", "path": str(tmp_path / "a.csv")}}},
        "nonsense": 1,
    }
    (tmp_path / "a.csv").write_text("text,label\nhello,greeting\n")
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump(recipe))
    code = submit(tmp_path / "broken.yaml", state_dir=folder, runs_dir=tmp_path / "runs")
    assert code == 1
    assert "nonsense: unknown key" in capfd.readouterr().out


def test_a_wrong_token_is_told_with_the_way_out(cluster, monkeypatch, tmp_path):
    state, _, _ = cluster
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    with pytest.raises(ServeError, match="RAY_AUTH_TOKEN_PATH"):
        submit("customer_intents", address=state.address, state_dir=tmp_path)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    with pytest.raises(ServeError, match="RAY_AUTH_TOKEN_PATH"):
        submit("customer_intents", address=state.address, state_dir=tmp_path)


def test_ctrl_c_stops_the_job(cluster, tmp_path):
    state, folder, home = cluster
    code = (
        "import sys; from pathlib import Path; from cluster.submit import submit; "
        "submit('customer_intents', ['name=stopped'], state_dir=Path(sys.argv[1]), "
        "runs_dir=Path(sys.argv[2]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "runs")],
        env=os.environ | {"HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        for line in process.stdout:
            if "Starting Ray" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) != 0
    token = (folder / "auth_token").read_text()
    jobs = httpx.get(
        f"{state.address}/api/jobs/", headers={"authorization": f"Bearer {token}"}, trust_env=False
    ).json()
    assert "STOPPED" in {job["status"] for job in jobs}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_recipe_runs_to_its_end_on_the_cluster(cluster, tmp_path, capfd):
    _, folder, _ = cluster
    rows = [f"where is parcel {n},track" for n in range(24)]
    rows += [f"please refund order {n},refund" for n in range(24)]
    for name in ("train", "eval"):
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    splits = {
        name: {"source": "csv", "path": str(tmp_path / f"{name}.csv")} for name in ("train", "eval")
    }
    recipe = {
        "name": "small",
        "tasks": {"intent": {"kind": "sequence_classification"}},
        "data": {"intent": splits},
        "train": {"epochs": 1, "workers": 2},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    code = submit(tmp_path / "small.yaml", state_dir=folder, runs_dir=tmp_path / "runs")
    assert code == 0, capfd.readouterr().out
    assert (tmp_path / "runs" / "small" / "bundles" / "trained" / "manifest.json").is_file()
    assert "train-trained: done" in capfd.readouterr().out
