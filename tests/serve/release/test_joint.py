"""Releases of a running service: Ray Serve, its proxy, the command. One start serves all of it."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ray_sft.bundle import Bundle
from serve.args import ServiceArgs
from serve.release.history import History
from tests.serve.release.running import Deployer, deployer, label_of, load, replicas
from tests.serve.test_run import Running, service

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, first: Bundle, generator_bundle: Bundle
) -> Iterator[tuple[Running, Deployer, ServiceArgs]]:
    folder = tmp_path_factory.mktemp("joint")
    args = ServiceArgs(
        bundles={"intents": str(first.path), "replies": str(generator_bundle.path)},
        num_cpus=1,
        num_slots=2,
        request_timeout_s=20.0,
    )
    with service(args, folder) as running, deployer(running, folder) as deploying:
        yield running, deploying, args


def written(folder: Path, args: ServiceArgs, **changes: object) -> Path:
    """A configuration file: the arguments of the service and some changes."""
    path = folder / "config.yaml"
    tree = args.model_dump(mode="json", exclude={"keys_file", "port"})  # these stay as they are
    path.write_text(yaml.safe_dump(tree | changes))
    return path


def test_a_bundle_is_changed_under_load_without_a_failure(served, first, second):
    running, deploying, _ = served
    expected = [label_of(first), label_of(second)]
    assert expected[0] != expected[1]
    (before,) = [process.pid for process in replicas(running)]
    with load(running) as clients:
        time.sleep(1)
        code, said = deploying.deploy(second.path)
        time.sleep(1)
    assert code == 0, said
    assert "changing the running replicas: 'intents' has another bundle" in said
    assert clients.failures == []
    assert clients.labels[0] == expected[0]
    assert clients.labels[-1] == expected[1]
    assert Counter(clients.labels).keys() == set(expected)
    assert [process.pid for process in replicas(running)] == [before]  # no new process
    assert max(clients.seconds) < 5


def test_a_bundle_that_answers_otherwise_never_reaches_the_service(served, drifted_bundle):
    _, deploying, _ = served
    code, said = deploying.deploy(drifted_bundle)
    assert code == 1
    assert "answered differently" in said


def test_a_release_that_the_replicas_refuse_is_taken_back(served, torch_generator_bundle):
    """Its samples are answered well; but nothing generates text from these weights."""
    running, deploying, _ = served
    with load(running) as clients:
        code, said = deploying.deploy(torch_generator_bundle.path)
    assert code == 1, said
    assert "text is generated from ONNX bundles only" in said
    assert "serves again" in said
    assert clients.failures == []
    assert len(set(clients.labels)) == 1
    record = History(deploying.releases_dir).records()[-1]
    assert record.outcome == "returned"


def test_settings_that_do_not_start_are_taken_back(served, tmp_path):
    """A rolling update: the old replica serves until a new one does, which this one never does."""
    running, deploying, args = served
    (tmp_path / "file").write_text("in the way")
    monitor = {"model": "intents", "database": f"sqlite:///{tmp_path}/file/monitor.db"}
    config = written(tmp_path, args, monitor=monitor)
    with load(running) as clients:
        code, said = deploying.deploy(config)
    assert code == 1, said
    assert "a rolling update: monitor has changed" in said
    assert "the new replicas do not start" in said
    assert "serves again" in said
    assert clients.failures == []
    assert len(set(clients.labels)) == 1


def test_settings_are_changed_under_load_without_a_failure(served, tmp_path):
    running, deploying, args = served
    (before,) = [process.pid for process in replicas(running)]
    config = written(tmp_path, args, max_inputs=args.max_inputs + 1)
    with load(running) as clients:
        code, said = deploying.deploy(config)
        time.sleep(3)  # the old replica ends
    assert code == 0, said
    assert "a rolling update: max_inputs has changed" in said
    assert clients.failures == []
    (after,) = [process.pid for process in replicas(running)]
    assert after != before


def test_a_killed_replica_costs_no_request_of_a_client_that_asks_again(served):
    running, _, _ = served
    (victim,) = replicas(running)
    with load(running, retries=12) as clients:
        time.sleep(0.5)
        os.kill(victim.pid, signal.SIGKILL)
        ends_at = time.monotonic() + 90
        while not (found := [one for one in replicas(running) if one.pid != victim.pid]):
            assert time.monotonic() < ends_at
            time.sleep(0.2)
        answered = len(clients.labels)
        while len(clients.labels) < answered + 20:
            assert time.monotonic() < ends_at, clients.failures[-1:]
            time.sleep(0.1)
    assert found
    assert clients.failures == []
