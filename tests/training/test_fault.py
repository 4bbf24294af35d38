"""A killed worker costs time and nothing else."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from ray_sft.training import train_model
from tests.training.worlds import records, run_world, train

SETTINGS = {
    "zero_stage": 2,
    "packing": True,
    "epochs": 40,
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
    )
    assert killed, "no worker was found to kill"
    assert len(starts) == 2, "the run restarted by itself"
    assert 20 <= starts[1] < len(expected), "and not from the beginning"
    assert losses.keys() == expected.keys()
    assert all(loss == expected[step] for step, seen in losses.items() for loss in seen)
    assert (weights / "model.safetensors").stat().st_size > 0
