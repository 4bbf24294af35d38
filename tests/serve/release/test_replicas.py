"""A service of several replicas: what it tells of all of them, and how it grows."""

import time

import httpx
import pytest

from serve.args import ServiceArgs
from tests.serve.release.running import deployer, label_of, load, replicas
from tests.serve.test_run import service


@pytest.mark.ray
@pytest.mark.slow
def test_every_replica_takes_a_release_up_and_tells_of_it(first, second, tmp_path):
    args = ServiceArgs(bundles={"intents": str(first.path)}, num_cpus=1, replicas=2)
    with service(args, tmp_path) as running, deployer(running, tmp_path) as deploying:
        headers = {"authorization": f"Bearer {running.key}"}
        with load(running) as clients:
            code, said = deploying.deploy(second.path)
            time.sleep(1)
        assert code == 0, said
        assert clients.failures == []
        assert clients.labels[-1] == label_of(second)
        reply = httpx.get(f"{running.url}/v1/releases", headers=headers, trust_env=False)
        found = reply.json()["data"]
        assert len({one["replica"] for one in found}) == 2
        assert {one["release"] for one in found} == {2}  # the first is what was found
        assert {one["models"]["intents"]["fingerprint"] for one in found} == {second.fingerprint}


@pytest.mark.ray
@pytest.mark.slow
def test_a_peak_is_answered_by_another_replica_soon(first, tmp_path):
    """Asked for within 15 seconds; how long it takes to load is the model's matter."""
    scaling = {"min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 2}
    args = ServiceArgs.model_validate(
        {"bundles": {"intents": str(first.path)}, "num_cpus": 1, "autoscaling": scaling}
    )
    with service(args, tmp_path) as running:
        assert len(replicas(running)) == 1
        with load(running, num_clients=24, pause_s=0.0) as clients:
            start = time.monotonic()
            while len(replicas(running)) < 2:
                assert time.monotonic() - start < 15, "no second replica was asked for"
                time.sleep(0.1)
        assert clients.failures == []
