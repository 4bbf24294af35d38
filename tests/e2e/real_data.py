"""Running recipes on the shared data sets, in a process of their own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

__all__ = [
    "DATA",
    "KEY",
    "bundle_figures",
    "needs_data",
    "run",
    "run_tree",
    "service",
    "stages",
    "start_service",
]

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

KEY = "test-key-of-the-slow-tests"

needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the shared data sets are not beside the checkout"
)


def run(*arguments: str, cwd: Path, timeout: float) -> float:
    """Runs the command; the seconds it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", "ray_sft.cli", "run", *arguments]
    subprocess.run(command, cwd=cwd, check=True, timeout=timeout)
    return time.monotonic() - began


def run_tree(tree: dict[str, Any], *, cwd: Path, timeout: float) -> dict[str, dict]:
    """Runs a recipe; the stages of its report by name."""
    path = cwd / f"{tree['name']}.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))
    seconds = run(str(path), cwd=cwd, timeout=timeout)
    print(tree["name"], f"{seconds:.0f} s")
    return stages(cwd / "runs" / tree["name"])


def stages(folder: Path) -> dict[str, dict]:
    """The stages of a run's report by name."""
    report = json.loads((folder / "report.json").read_text())
    return {stage["stage"]: stage for stage in report["stages"]}


def bundle_figures(folder: Path) -> dict[str, dict]:
    """Those of bundles, by variant."""
    return {
        name.removeprefix("bundle-"): stage
        for name, stage in stages(folder).items()
        if name.startswith("bundle-")
    }


def start_service(*arguments: str, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """A service that is ready; what it prints goes to ``folder/service.log``."""
    command = [sys.executable, "-m", "ray_sft.cli", "serve", *arguments, "--port", str(port)]
    environment = os.environ | {"RAY_SFT_API_KEYS": KEY}
    path = folder / "service.log"
    with path.open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
    deadline = time.monotonic() + 120
    while "Serving at" not in path.read_text():
        assert process.poll() is None, path.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return process


@contextmanager
def service(*arguments: str, port: int, folder: Path) -> Iterator[str]:
    """A service; its API key."""
    process = start_service(*arguments, port=port, folder=folder)
    try:
        yield KEY
    finally:
        process.terminate()
        process.wait(timeout=60)
