"""Every tracker keeps what it is told, and none of them can stop a run."""

import logging
import struct
from pathlib import Path
from typing import get_args

import pytest
from mlflow.tracking import MlflowClient
from pydantic import TypeAdapter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from ray_sft.core import ConfigError
from ray_sft.training import AnyTracker
from ray_sft.training.trackers import Followers, Mlflow, Tensorboard, TrackedRun, Tracker, Wandb
from tests.training.worlds import free_port
from tests.waiting import wait_until

KINDS = [Tensorboard, *get_args(get_args(AnyTracker)[0])]
STEPS = {1: 3.5, 2: 2.5, 3: 1.5}


@pytest.fixture(autouse=True)
def no_account(monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def run(tmp_path) -> TrackedRun:
    return TrackedRun("run-1", "bank/trained", tmp_path, {"train": {"epochs": 3}, "model": "m"})


def made(kind, folder: Path) -> Tracker:
    return Mlflow(uri=database(folder)) if kind is Mlflow else kind()


def database(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def of_tensorboard(folder):
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {event.step: event.value for event in events.Scalars("step/loss")}


def of_mlflow(folder):
    history = client(folder).get_metric_history(only_run(folder).info.run_id, "step/loss")
    return {metric.step: metric.value for metric in history}


def client(folder):
    return MlflowClient(tracking_uri=database(folder))


def only_run(folder):
    (experiment,) = client(folder).search_experiments(filter_string="name = 'ray-sft'")
    (found,) = client(folder).search_runs([experiment.experiment_id])
    return found


def of_wandb(folder):
    found = {}
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for data in log_records(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            items = {
                item.key or "/".join(item.nested_key): item.value_json
                for item in record.history.item
            }
            if "step/loss" in items:
                found[int(items["training_step"])] = float(items["step/loss"])
    return found


def log_records(content):
    """Of a LevelDB log: blocks of 32 KiB; checksum, length and kind before each piece."""
    place, pieces = 7, b""  # after the file's own header
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        pieces += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield pieces
            pieces = b""


READ = {Tensorboard: of_tensorboard, Mlflow: of_mlflow, Wandb: of_wandb}


def follow_until_it_fails(tracker, run):
    with Followers([tracker], run) as followers:
        followers.write("step", 1, {"loss": 9.0, "num_tokens": 60.0})
        followers.write("step", 2, {"loss": 9.0, "num_tokens": 60.0})
        raise RuntimeError


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_run_that_goes_on_is_one_run_with_all_its_figures(kind, run, tmp_path):
    tracker = made(kind, tmp_path)
    tracker.check()
    with pytest.raises(RuntimeError):
        follow_until_it_fails(tracker, run)
    if kind is Mlflow:
        assert only_run(tmp_path).info.status == "FAILED"
    with Followers([tracker], run) as followers:  # from the checkpoint of step 0
        for step, loss in STEPS.items():
            followers.write("step", step, {"loss": loss, "num_tokens": 60.0})
        followers.write("evaluation", 3, {"accuracy": 0.5})
    # wandb's own process closes its file after the run's end
    wait_until(lambda: READ[kind](tmp_path) == STEPS, timeout_s=20)
    if kind is Mlflow:
        found = only_run(tmp_path)
        assert (found.info.status, found.info.run_name) == ("FINISHED", "bank/trained")
        assert found.data.params == {"train.epochs": "3", "model": "m"}
        assert found.data.metrics["evaluation/accuracy"] == 0.5


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_kind_is_the_name_of_the_module_and_survives_json(kind, tmp_path):
    tracker = made(kind, tmp_path)
    assert type(tracker).__module__.rsplit(".", 1)[-1] == tracker.kind == kind.__name__.lower()
    if kind is not Tensorboard:
        assert TypeAdapter(AnyTracker).validate_json(tracker.model_dump_json()) == tracker


def test_two_runs_of_a_folder_are_two(run):
    other = TrackedRun("run-2", run.title, run.folder, run.settings)
    assert run.identity() == run.identity() != other.identity()


def test_a_tracker_that_fails_is_left_out_and_the_others_go_on(run, tmp_path, caplog):
    with Followers([Mlflow(uri=database(tmp_path)), Tensorboard()], run) as followers:
        followers.write("step", 1, {"loss": 3.5})
        (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 1000)
        with caplog.at_level(logging.WARNING):
            followers.write("step", 2, {"loss": 2.5})
            followers.write("step", 3, {"loss": 1.5})
    assert of_tensorboard(tmp_path) == STEPS
    (warning,) = [r.getMessage() for r in caplog.records if "does not follow" in r.getMessage()]
    assert warning.startswith("mlflow does not follow the run any more")
    assert "metrics.jsonl" in warning


def test_what_cannot_work_is_said_before_training(tmp_path, run):
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI is not set"):
        Mlflow().check()
    with pytest.raises(ConfigError, match="WANDB_API_KEY is not set"):
        Wandb(mode="online").check()
    (tmp_path / "mlflow.db").write_bytes(b"no database at all" * 1000)
    for uri in (database(tmp_path), f"http://127.0.0.1:{free_port()}"):
        with pytest.raises(ConfigError, match="mlflow cannot follow the run"):
            Mlflow(uri=uri).follow(run)


def test_a_package_that_is_missing_is_named():
    class Absent(Tensorboard):
        package = "no_such_package"

    with pytest.raises(ConfigError, match=r"pip install 'ray-sft\[tracking\]'"):
        Absent().check()
