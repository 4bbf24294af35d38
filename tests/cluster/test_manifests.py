"""The Kubernetes files and the image: parsed, pinned alike, and not open to everybody."""

from pathlib import Path

import pytest
import yaml

import cluster

ROOT = Path(cluster.__file__).parent
CONSTRAINTS = ROOT.parent / "constraints.txt"
FILES = sorted((ROOT / "kuberay").glob("*.yaml"))
TREES = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in FILES}
CLUSTERS = {
    "ray_cluster": TREES["ray_cluster"]["spec"],
    "ray_job": TREES["ray_job"]["spec"]["rayClusterSpec"],
    "ray_service": TREES["ray_service"]["spec"]["rayClusterConfig"],
}


def _pods(spec):
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"] for group in groups]


def _pins():
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


@pytest.mark.skipif(not CONSTRAINTS.is_file(), reason="not in a checkout: no constraints.txt")
def test_the_version_of_ray_is_the_pinned_one():
    assert {spec["rayVersion"] for spec in CLUSTERS.values()} == {_pins()["ray"]}


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_cluster_asks_for_a_token(name):
    assert CLUSTERS[name]["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_pod_is_limited_unprivileged_and_below_the_network_policy(name):
    policy = TREES["network_policy"]["spec"]
    for pod in _pods(CLUSTERS[name]):
        labels = policy["podSelector"]["matchLabels"]
        assert labels.items() <= pod["metadata"]["labels"].items()
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in pod["spec"]["containers"]:
            assert container["resources"]["limits"]["memory"]
            assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_network_policy_lets_nobody_in_by_default():
    policy = TREES["network_policy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert all(rule["from"] for rule in policy["ingress"])
    assert all(rule["to"] for rule in policy["egress"])


def test_every_claim_is_there():
    claim = TREES["storage"]["metadata"]["name"]
    for spec in CLUSTERS.values():
        for pod in _pods(spec):
            (volume,) = pod["spec"]["volumes"]
            assert volume["persistentVolumeClaim"]["claimName"] == claim


def test_the_job_runs_the_command_and_keeps_its_runs():
    entrypoint = TREES["ray_job"]["spec"]["entrypoint"]
    assert entrypoint == "ray-sft run customer_intents --runs-dir /runs"
    mounts = CLUSTERS["ray_job"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    assert {"name": "runs", "mountPath": "/runs"} in mounts["volumeMounts"]


def test_the_service_is_configured_as_the_builder_wants_it():
    args = pytest.importorskip("serve.args", reason="the service is not built")
    config = yaml.safe_load(TREES["ray_service"]["spec"]["serveConfigV2"])
    (application,) = config["applications"]
    assert application["import_path"] == "serve.app:build_app"
    parsed = args.ServiceArgs.model_validate(application["args"])
    assert set(parsed.bundles) == {"customer_intents", "customer_replies"}


def test_the_image_installs_the_pins_without_root():
    lines = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert "constraints.txt" in copied
    installs = [line for line in lines if "pip install" in line]
    assert all("--constraint constraints.txt" in line for line in installs)
    assert "USER 1000" in lines
