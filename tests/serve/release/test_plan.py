"""Whether a change can be made within the replicas, and what it means to want one."""

import pytest

from ray_sft.core import ConfigError
from ray_sft.tasks import Embedding
from serve.args import ServiceArgs
from serve.release.history import History
from serve.release.plan import changed_settings, deployment_version, make_plan
from serve.release.swappable import holders, why_not_swapped
from serve.release.target import Serving
from serve.release.wishes import Abort, Candidates, Configure, GoBack, Promote, Replace


def args_of(*bundles, **more):
    names = ("intents", "others")[: len(bundles)]
    return ServiceArgs(
        bundles={name: str(one.path) for name, one in zip(names, bundles, strict=True)},
        fingerprints={n: one.fingerprint for n, one in zip(names, bundles, strict=True)},
        num_cpus=1,
        **more,
    )


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


APPLICATIONS = {
    "assistant": {"embedding_model": "knowledge", "knowledge": "k", "intent_model": "intents"},
    "monitor": {"model": "market", "database": "sqlite:///m.db"},
    "recommend": {
        "embedding_model": "items/vector",
        "ranking_model": "items/click",
        "database": "sqlite:///r.db",
    },
}


def test_applications_hold_their_models():
    names = ("knowledge", "intents", "market", "items", "free")
    args = ServiceArgs.model_validate({"bundles": {name: name for name in names}} | APPLICATIONS)
    held = holders(args)
    assert {name: one.application for name, one in held.items()} == {
        "knowledge": "assistant",
        "intents": "assistant",
        "market": "monitor",
        "items": "recommend",
    }
    assert [name for name, one in held.items() if one.labels_are_enough] == ["intents"]


def test_a_held_bundle_is_changed_by_a_rolling_update(first, second):
    held = holders(
        ServiceArgs.model_validate(
            {"bundles": {"intents": "a"}, "monitor": APPLICATIONS["monitor"] | {"model": "intents"}}
        )
    )
    assert why_not_swapped("intents", first.manifest, second.manifest, {}) is None
    reason = why_not_swapped("intents", first.manifest, second.manifest, held)
    assert reason == "'intents' is held by the application 'monitor'"
    other_task = first.manifest.model_copy(update={"tasks": {"intent": Embedding()}})
    assert "tasks" in why_not_swapped("intents", first.manifest, other_task, {})


@pytest.fixture
def serving(first):
    return Serving(args_of(first, release=4), {"intents": first.manifest})


def test_a_configuration_keeps_what_only_a_restart_changes(serving, second):
    wished = ServiceArgs(bundles={"intents": str(second.path)}, port=9000)
    found, notes = Configure(wished).resolve(serving)
    assert (found.port, found.num_cpus) == (8000, 1)
    assert notes == ["port stays 8000: it was given when Ray Serve was started"]
    assert found.bundles["intents"] == str(second.path)


def test_bundles_take_the_places_of_their_names(serving, second):
    found, _ = Replace({"intents": str(second.path)}).resolve(serving)
    assert found.bundles == {"intents": str(second.path)}
    assert found.fingerprints == {}
    with pytest.raises(ConfigError, match="no model 'unheard'"):
        Replace({"unheard": str(second.path)}).resolve(serving)
    with pytest.raises(ConfigError, match="no service is running"):
        Replace({}).resolve(None)


def test_candidates_come_go_and_take_over(serving, second):
    wish = Candidates(Replace({"intents": str(second.path)}), percent=10, shadow=0)
    with_canary, _ = wish.resolve(serving)
    release = with_canary.releases["intents"]
    assert (release.bundle, release.percent) == (str(second.path), 10)
    assert with_canary.bundles == serving.args.bundles
    known = release.model_copy(update={"fingerprint": second.fingerprint})
    now = Serving(
        with_canary.model_copy(update={"releases": {"intents": known}}), serving.manifests
    )
    promoted, _ = Promote().resolve(now)
    assert promoted.bundles == {"intents": str(second.path)}
    assert promoted.fingerprints == {"intents": second.fingerprint}
    assert promoted.releases == {}
    aborted, _ = Abort().resolve(now)
    assert (aborted.bundles, aborted.releases) == (serving.args.bundles, {})


def test_candidates_that_make_no_sense_are_errors(serving, first):
    same = Candidates(Replace({"intents": str(first.path)}), percent=10, shadow=0)
    with pytest.raises(ConfigError, match="is served already"):
        same.resolve(serving)
    settings = serving.args.model_copy(update={"max_tokens": 3})
    with pytest.raises(ConfigError, match="another max_tokens"):
        Candidates(Configure(settings), percent=10, shadow=0).resolve(serving)
    for wish in (Promote(), Abort()):
        with pytest.raises(ConfigError, match="no candidate"):
            wish.resolve(serving)


def test_going_back_means_the_last_other_release(serving, second, tmp_path):
    history = History(tmp_path)
    wish = GoBack(history)
    with pytest.raises(ConfigError, match="no other release"):
        wish.resolve(serving)
    before = history.begin(args_of(second), kind="deploy", way="swap")
    history.end(before, "served")
    found, notes = wish.resolve(serving)
    assert found.fingerprints == {"intents": second.fingerprint}
    assert notes[0].startswith("going back to release 1 of ")
