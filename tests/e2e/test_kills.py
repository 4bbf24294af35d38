"""Kills at random moments, of workers, of the run itself and of Ray. `make test-slow`."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.test_interrupt import start, steps
from tests.e2e.tiny_run import tiny_recipe, write_many, write_tiny_run


def worker(run: psutil.Process) -> psutil.Process | None:
    found = [p for p in run.children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]
    return random.Random(time.time()).choice(found) if found else None


def raylet(run: psutil.Process) -> psutil.Process | None:
    return next((p for p in run.children(recursive=True) if p.name() == "raylet"), None)


def feed(run: psutil.Process) -> psutil.Process | None:
    """The process that writes the windows of a stream."""
    found = (p for p in run.children(recursive=True) if "WindowFeed" in " ".join(p.cmdline()))
    return next(found, None)


VICTIMS = {"worker": worker, "run": lambda run: run, "raylet": raylet, "feed": feed}


def last_step(folder: Path) -> int:
    return max((int(r["step"]) for r in steps(folder) if r["event"] == "step"), default=0)


def curve(folder: Path) -> dict[int, set[tuple[str, float]]]:
    """By step, the rows and the loss of every time that it was run."""
    found: dict[int, set[tuple[str, float]]] = {}
    for record in steps(folder):
        if record["event"] == "step":
            found.setdefault(record["step"], set()).add((record["rows"], record["loss"]))
    return found


def end(process: subprocess.Popen[str], children: list[psutil.Process]) -> None:
    """Waits for a run that was killed, and ends what it could not end any more."""
    process.communicate(timeout=180)
    _, alive = psutil.wait_procs(children, timeout=30)
    for orphan in alive:
        orphan.kill()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("window", "num_steps", "num_rows", "victims"),
    [(0, 6000, 6, ["worker", "run", "raylet"] * 3 + ["worker"]), (100, 1500, 900, list(VICTIMS))],
    ids=["all rows", "a stream"],
)
def test_a_run_that_is_killed_again_and_again_ends_like_the_undisturbed_one(
    tmp_path: Path, window: int, num_steps: int, num_rows: int, victims: list[str]
) -> None:
    recipe = tiny_recipe(
        f"steps: {num_steps}, window: {window}, tokens_per_step: 64, checkpoint_every: 40, "
        "evaluate_every: 100000, gradient_accumulation: 2, workers: 2, zero_stage: 2",
        rows="many.csv",
    )
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for folder in (calm, killed):
        folder.mkdir()
        write_tiny_run(folder, recipe)
        write_many(folder, num_rows)
    output, _ = start(calm).communicate(timeout=900)
    expected = curve(calm)
    assert len(expected) == num_steps, output

    rng = random.Random(0)
    rng.shuffle(victims)
    process, children = start(killed), []
    for kind in victims:
        goal = last_step(killed) + rng.randint(5, 120)
        deadline = time.monotonic() + 240
        while last_step(killed) < goal:
            assert time.monotonic() < deadline, "it did not come so far"
            if process.poll() is not None:
                process = start(killed)
            time.sleep(0.1)
        victim = VICTIMS[kind](psutil.Process(process.pid))
        assert victim is not None, f"there is no {kind}"
        children = psutil.Process(process.pid).children(recursive=True)
        print(f"kill {kind} at step {last_step(killed)}", flush=True)
        os.kill(victim.pid, signal.SIGKILL)
        if kind in ("run", "raylet"):
            end(process, children)
    while last_step(killed) < num_steps or process.poll() is None:
        if process.poll() not in (None, 0):
            process = start(killed)
        time.sleep(0.5)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert curve(killed) == expected, "every step saw the same rows and found the same loss"
