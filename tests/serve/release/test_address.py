"""How a second command finds a service of this user."""

import os
import subprocess
import sys

from serve.release.address import ServiceAddress, announced, find_service

SERVICE = ServiceAddress(ray_address="127.0.0.1:4000", url="http://127.0.0.1:8000", pid=os.getpid())


def test_a_service_is_found_by_its_port_while_it_runs(tmp_path):
    folder = tmp_path / "services"
    assert find_service(8000, folder) is None
    with announced(SERVICE, 8000, folder):
        assert find_service(8000, folder) == SERVICE
        assert find_service(8001, folder) is None
    assert find_service(8000, folder) is None


def test_nobody_else_may_read_where_it_is(tmp_path):
    folder = tmp_path / "services"
    with announced(SERVICE, 8000, folder):
        assert folder.stat().st_mode & 0o077 == 0
        assert (folder / "8000.json").stat().st_mode & 0o077 == 0


def test_a_service_that_has_died_is_none(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = SERVICE.model_copy(update={"pid": ended.pid})
    with announced(dead, 8000, tmp_path):
        assert find_service(8000, tmp_path) is None


def test_a_damaged_file_is_no_service(tmp_path):
    (tmp_path / "8000.json").write_text("{")
    assert find_service(8000, tmp_path) is None
    with announced(SERVICE, 8000, tmp_path):  # a new service takes its place
        assert find_service(8000, tmp_path) == SERVICE
