import os
import subprocess

import pytest

from tests.postgresql import postgresql
from tests.ray_session import local_ray

__all__ = ["local_ray", "postgresql", "small_disk"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    if os.geteuid():
        pytest.skip("mounting a file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # readers may have files open
