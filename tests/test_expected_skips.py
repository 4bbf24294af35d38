"""CI fails on a skip that nobody has agreed to."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = """
import pytest

def test_passes(): pass

@pytest.mark.skipif(True, reason="no chromium here")
def test_browser(): pass

@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    shutil.copy(HERE / "conftest.py", tmp_path)
    (tmp_path / "test_some.py").write_text(TESTS)
    return tmp_path


def run(folder, *arguments) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("patterns", "status"), [("# none\n\n", 1), ("no chrom.* here\n", 0), ("chromium\n", 1)]
)
def test_only_agreed_skips_pass(folder, patterns, status):
    (folder / "expected.txt").write_text(patterns)
    found = run(folder, "--expected-skips=expected.txt")
    assert found.returncode == status, found.stdout
    assert ("UNEXPECTED SKIP test_some.py::test_browser: no chromium here" in found.stdout) == (
        status == 1
    )


def test_without_the_option_skips_are_free(folder):
    assert run(folder).returncode == 0


@pytest.mark.parametrize("side_by_side", [[], ["-n", "2", "--dist", "loadgroup"]])
def test_a_module_that_skips_itself_counts(folder, side_by_side):
    (folder / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    (folder / "expected.txt").write_text("nothing\n")
    found = run(folder, "--expected-skips=expected.txt", *side_by_side)
    assert found.returncode == 1
    assert "UNEXPECTED SKIP test_some.py::test_browser" in found.stdout
    assert "UNEXPECTED SKIP test_module.py: could not import 'no_such_module'" in found.stdout
