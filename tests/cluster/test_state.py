"""The record, the token, and whose processes are whose."""

import os
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from cluster.state import MARKER, ClusterState, ensure_token, find_processes
from ray_sft.core import ServeError


def _state(**fields):
    tree = {"identity": "0123456789", "port": 1, "dashboard_port": 2, "num_workers": 1}
    return ClusterState(**tree | {"temp_dir": "/nowhere"} | fields)


def _mode(path):
    return path.stat().st_mode & 0o777


def test_the_record_is_read_as_written_and_forgotten(tmp_path):
    assert ClusterState.read(tmp_path) is None
    _state().write(tmp_path)
    assert ClusterState.read(tmp_path) == _state()
    ClusterState.forget(tmp_path)
    ClusterState.forget(tmp_path)
    assert ClusterState.read(tmp_path) is None


def test_a_damaged_record_says_what_to_do(tmp_path):
    (tmp_path / "cluster.json").write_text("{}")
    with pytest.raises(ServeError, match=MARKER):
        ClusterState.read(tmp_path)


def test_the_token_is_private_and_where_ray_looks_for_it(home, tmp_path):
    former = os.umask(0)
    try:
        path = ensure_token(tmp_path / "state")
    finally:
        os.umask(former)
    usual = home / ".ray" / "auth_token"
    assert len(path.read_text()) >= 32
    assert usual.read_text() == path.read_text()
    assert _mode(path) == _mode(usual) == 0o600
    assert _mode(path.parent) == 0o700


def test_a_token_that_ray_has_made_is_kept_and_hidden_from_others(home, tmp_path):
    usual = home / ".ray" / "auth_token"
    usual.parent.mkdir()
    usual.write_text("made-by-ray")
    usual.chmod(0o644)
    assert ensure_token(tmp_path / "state").read_text() == "made-by-ray"
    assert ensure_token(tmp_path / "state").read_text() == "made-by-ray"
    assert _mode(usual) == 0o600


def names(processes):
    with suppress(psutil.NoSuchProcess):
        return {process.name() for process in processes}
    return set()


def test_processes_are_found_by_their_environment_through_children():
    code = "import subprocess, sys; subprocess.run(['sleep', '60'])"
    own = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {MARKER: "mine"}, start_new_session=True
    )
    other = subprocess.Popen(["sleep", "60"], env=os.environ | {MARKER: "theirs"})
    try:
        # a child has its parent's name until it becomes another program
        while "sleep" not in names(found := find_processes("mine")):
            assert own.poll() is None
        assert own.pid in {process.pid for process in found}
        assert other.pid not in {process.pid for process in found}
    finally:
        ended = find_processes("mine")
        for process in ended:
            process.kill()
        other.kill()
        own.wait()
        other.wait()
    psutil.wait_procs(ended, timeout=10)  # a grandchild ends some moments after its signal
    assert find_processes("mine") == []
