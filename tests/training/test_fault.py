"""A killed worker costs time and nothing else."""

import logging
import os
import re
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from ray_sft.core import TrainingError
from ray_sft.training import progress, train_model
from ray_sft.training.trackers import Mlflow, Wandb
from tests.training.worlds import records, run_world, train

SETTINGS = {
    "zero_stage": 2,
    "packing": True,
    "epochs": 12,
    "checkpoint_every": 20,
    "evaluate_every": 100,
    "learning_rate": 3e-3,
}


def worker_pids() -> list[int]:
    """Training workers of the Ray that this process started."""
    ours = psutil.Process().children(recursive=True)
    return [p.pid for p in ours if "RayTrainWorker" in " ".join(p.cmdline())]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.timeout(280)
def test_a_killed_worker_leaves_the_loss_curve_as_it_was(tiny_decoder, tmp_path: Path):
    job = tiny_decoder.job(**SETTINGS)
    run_world(train, 2, job, tmp_path / "undisturbed")
    expected = {r["step"]: r["loss"] for r in records(tmp_path / "undisturbed", "step")}
    killed: list[int] = []
    starts: list[int] = []
    losses: dict[int, list[float]] = {}

    def on_record(record):
        if record["event"] == "start":
            starts.append(int(record["step"]))
        if record["event"] == "step":
            losses.setdefault(int(record["step"]), []).append(record["loss"])
            registered = tmp_path / "disturbed" / "run" / "checkpoint_manager_snapshot.json"
            if not killed and registered.exists():
                killed.append(max(worker_pids()))
                os.kill(killed[0], signal.SIGKILL)

    weights = train_model(
        job.tasks,
        job.train,
        model=job.model,
        processor=job.processor,
        data_dirs={name: Path(folder) for name, folder in job.data_dirs.items()},
        out_dir=tmp_path / "disturbed",
        name="run",
        on_record=on_record,
        trackers=[Mlflow(uri=f"sqlite:///{tmp_path}/mlflow.db"), Wandb(mode="offline")],
        title="bank/trained",
    )
    assert killed, "no worker was found to kill"
    assert len(starts) == 2, "the run restarted by itself"
    assert 20 <= starts[1] < len(expected), "and not from the beginning"
    assert losses.keys() == expected.keys()
    assert all(loss == expected[step] for step, seen in losses.items() for loss in seen)
    assert (weights / "model.safetensors").stat().st_size > 0


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.timeout(280)
def test_a_worker_that_hangs_is_named_and_the_run_goes_on_when_it_does(
    tiny_decoder, tmp_path: Path, monkeypatch, caplog
):
    monkeypatch.setattr(progress, "_PATIENCE_S", 10.0)
    job = tiny_decoder.job(**SETTINGS | {"epochs": 3})
    steps: list[int] = []
    stopped: list[int] = []

    def told() -> list[str]:
        return [r.getMessage() for r in caplog.records if "Nothing has moved" in r.getMessage()]

    def wake() -> None:
        deadline = time.monotonic() + 120
        while not told() and time.monotonic() < deadline:
            time.sleep(0.5)
        os.kill(stopped[0], signal.SIGCONT)

    def on_record(record):
        if record["event"] == "step":
            steps.append(int(record["step"]))
            if not stopped:
                stopped.append(max(worker_pids()))
                os.kill(stopped[0], signal.SIGSTOP)
                threading.Thread(target=wake).start()

    with caplog.at_level(logging.WARNING):
        train_model(
            job.tasks,
            job.train,
            model=job.model,
            processor=job.processor,
            data_dirs={name: Path(folder) for name, folder in job.data_dirs.items()},
            out_dir=tmp_path,
            name="run",
            on_record=on_record,
        )
    (warning,) = told()
    assert re.search(r"worker [01] (has been silent|still) .*the others wait for it", warning)
    assert steps == sorted(set(steps)), "no step was run again"


@pytest.mark.slow  # of the joints alone: that it goes on is tested beside other resumptions
@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.timeout(280)
def test_a_run_that_failed_goes_on_with_fewer_workers(tiny_decoder, tmp_path: Path):
    """As where a machine is lost for good; every step is run once, on the same rows."""
    settings = SETTINGS | {"packing": False, "max_failures": 0}
    runs: dict[int, dict[int, tuple[int, float]]] = {2: {}, 1: {}}
    killed: list[int] = []

    def run(workers: int) -> Path:
        job = tiny_decoder.job(**settings, workers=workers)

        def on_record(record):
            if record["event"] == "step":
                figures = (int(record["num_tokens"]), record["loss"])
                runs[workers][int(record["step"])] = figures
                registered = tmp_path / "run" / "checkpoint_manager_snapshot.json"
                if not killed and registered.exists():
                    killed.append(max(worker_pids()))
                    os.kill(killed[0], signal.SIGKILL)

        return train_model(
            job.tasks,
            job.train,
            model=job.model,
            processor=job.processor,
            data_dirs={name: Path(folder) for name, folder in job.data_dirs.items()},
            out_dir=tmp_path,
            name="run",
            on_record=on_record,
        )

    with pytest.raises(TrainingError, match="goes on from its last checkpoint"):
        run(2)
    weights = run(1)
    first = min(runs[1])
    assert first >= 20, "it began anew"
    for step, (num_tokens, loss) in runs[2].items():
        if step >= first:  # the killed run had gone beyond its checkpoint
            assert runs[1][step] == (num_tokens, pytest.approx(loss, abs=1e-4))
    assert sorted(runs[1]) == list(range(first, max(runs[1]) + 1))
    assert (weights / "model.safetensors").stat().st_size > 0
