"""A service under load for twenty minutes: it neither grows nor fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 20


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 60 + 900)
def test_a_soaked_service_neither_grows_nor_fails() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--minutes", str(MINUTES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=MINUTES * 60 + 800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["minutes"] == MINUTES
    assert found["errors"] == {"classify": {}, "chat": {}}, found
    for route, statuses in found["statuses"].items():
        assert set(statuses) == {"200"}, found
        # all that were due within the time, but for those of its last moment
        assert statuses["200"] > 0.9 * found["rates"][route] * MINUTES * 60, found
    assert all(min(series) > 0 for series in found["megabytes"].values()), found
    assert max(found["slopes_mb_per_minute"].values()) < 1.0, found
