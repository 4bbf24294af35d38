"""Whether a change can be made within the running replicas."""

import pytest

from serve.args import ServiceArgs
from serve.release.plan import changed_settings, deployment_version, make_plan
from tests.serve.release.conftest import args_of


def plan(current, new, *, serving, manifests):
    return make_plan(
        current,
        new,
        serving={"intents": serving.manifest},
        manifests={"intents": manifests.manifest},
    )


def test_nothing_is_started_anew_for_another_bundle(first, second):
    found = plan(args_of(first), args_of(second), serving=first, manifests=second)
    assert found.way == "swap"
    assert found.reasons == ("'intents' has another bundle",)
    assert plan(args_of(first), args_of(first), serving=first, manifests=first).way == "nothing"
    assert make_plan(None, args_of(first), serving={}, manifests={}).way == "start"


def test_a_bundle_that_lies_elsewhere_is_the_same_bundle(first, tmp_path):
    moved = args_of(first).model_copy(update={"bundles": {"intents": str(tmp_path)}})
    assert plan(args_of(first), moved, serving=first, manifests=first).way == "nothing"


def test_candidates_and_numbers_of_replicas_need_no_new_replica(first, second):
    release = {"intents": {"bundle": str(second.path), "percent": 10}}
    new = args_of(first, releases=release)
    assert plan(args_of(first), new, serving=first, manifests=first).way == "swap"
    more = args_of(first, replicas=3)
    fewer = args_of(first, replicas=2)
    assert plan(fewer, more, serving=first, manifests=first).reasons == (
        "the number of replicas has changed",
    )


@pytest.mark.parametrize(
    "change",
    [{"max_tokens": 7}, {"num_cpus": 2}, {"replicas": 2}, {"request_timeout_s": 5}],
)
def test_other_settings_need_new_replicas(first, change):
    new = ServiceArgs.model_validate(args_of(first).model_dump() | change)
    found = plan(args_of(first), new, serving=first, manifests=first)
    assert found.way == "rolling"
    assert deployment_version(args_of(first)) != deployment_version(new)


def test_another_set_of_models_needs_new_replicas(first, second):
    assert changed_settings(args_of(first), args_of(first, second)) == ["the set of models"]


def test_what_ray_serve_was_started_with_is_no_part_of_a_replica(first):
    args = args_of(first)
    moved = args.model_copy(update={"port": 9999, "host": "0.0.0.0", "release": 5})
    assert deployment_version(args) == deployment_version(moved)
