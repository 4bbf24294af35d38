"""The command's decisions, on a service that lives in this process."""

import shutil

import pytest

from ray_sft.core import BundleError, ConfigError, ServeError
from serve.args import ServiceArgs
from serve.release.deploy import Deployment, Refused
from serve.release.history import History
from serve.release.target import Serving
from serve.release.watch import Watch
from serve.release.wishes import Abort, Candidates, Configure, GoBack, Promote, Replace
from tests.serve.release.simulated import SimulatedTarget

ACCURACY = "intent/accuracy"


def served_args(bundle, **more):
    return ServiceArgs(
        bundles={"intents": str(bundle.path)},
        fingerprints={"intents": bundle.fingerprint},
        num_cpus=1,
        **more,
    )


@pytest.fixture
def target(first):
    return SimulatedTarget(Serving(served_args(first), {"intents": first.manifest}))


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "releases")


class Clock:
    """Time that passes only when somebody sleeps."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Samples:
    """Remembers what was asked, and answers wrongly a number of times."""

    def __init__(self, wrong: int = 0) -> None:
        self.asked = []
        self.wrong = wrong

    def __call__(self, golden):
        self.asked.append([(one.name, one.bundle.fingerprint, one.is_candidate) for one in golden])
        self.wrong -= 1
        return ["model 'intents': /v1/classify answered 500"] if self.wrong >= 0 else []


def deployment(target, history, *, ask=None, wait=True, said=None, **more):
    clock = Clock()
    watch = Watch(ask or Samples(), timeout_s=30, clock=clock, sleep=clock.sleep)
    return Deployment(
        target,
        history,
        watch if wait else None,
        say=(lambda text: said.append(text)) if said is not None else lambda _: None,
        **more,
    )


def to(bundle, **more):
    return Replace({"intents": str(bundle.path)}, **more)


def test_a_good_release_is_served_and_written_down(target, history, first, second):
    samples, said = Samples(), []
    record = deployment(target, history, ask=samples, said=said).run(to(second))
    assert (record.number, record.outcome, record.way) == (2, "served", "swap")
    found, last = history.records()
    assert last == record
    assert (found.kind, found.outcome) == ("found", "served")
    assert found.args.fingerprints == {"intents": first.fingerprint}
    assert target.serving.args.fingerprints == {"intents": second.fingerprint}
    assert target.serving.args.release == 2
    assert samples.asked == [[("intents", second.fingerprint, False)]]
    assert any("changing the running replicas" in line for line in said)


def test_what_is_served_already_is_not_deployed(target, history, first):
    assert deployment(target, history).run(to(first)) is None
    assert history.records() == []
    assert target.applied == []


@pytest.mark.parametrize("how", ["fails_on", "dies_on", "stuck_on", "samples"])
def test_a_release_that_does_not_serve_is_taken_back_by_itself(target, history, first, second, how):
    samples = Samples(wrong=1000 if how == "samples" else 0)
    if how == "stuck_on":
        target.stuck_on = {2}
    elif how != "samples":
        message = {"fails_on": "answered differently", "dies_on": "x\nBundleError: bad\ny"}[how]
        setattr(target, how, {2: message})
    ask = (lambda golden: samples(golden) if golden else []) if how == "samples" else samples
    record = deployment(target, history, ask=ask).run(to(second))
    assert record.outcome == "returned"
    assert {
        "fails_on": "answered differently",
        "dies_on": "the new replicas do not start: BundleError: bad",
        "stuck_on": "after 30 s 0 of 3 replicas serve release 2. Ray says: waiting for CPUs",
        "samples": "the samples are not answered as recorded: model 'intents'",
    }[how] in record.reason
    assert [args.release for args in target.applied] == [2, 0]
    assert target.serving.args.fingerprints == {"intents": first.fingerprint}


def test_samples_that_are_answered_late_are_answered(target, history, second):
    assert deployment(target, history, ask=Samples(wrong=5)).run(to(second)).outcome == "served"


def test_where_going_back_fails_too_it_is_said(target, history, second):
    target.fails_on = {2: "bad", 0: "gone"}
    record = deployment(target, history).run(to(second))
    assert record.outcome == "failed"
    assert record.reason == "bad Going back failed too: gone"


def test_a_first_release_that_fails_leaves_nothing_behind(history, second):
    target = SimulatedTarget(fails_on={1: "bad"})
    record = deployment(target, history).run(Configure(served_args(second)))
    assert record.outcome == "failed"
    assert target.removed


def test_a_first_release_starts_the_service(history, second):
    target = SimulatedTarget()
    record = deployment(target, history).run(Configure(served_args(second)))
    assert (record.outcome, record.way) == ("served", "start")


@pytest.mark.parametrize("kind", ["drifted", "damaged"])
def test_a_bad_bundle_never_reaches_the_service(
    target, history, drifted_bundle, damaged_bundle, kind
):
    path = {"drifted": drifted_bundle, "damaged": damaged_bundle}[kind]
    with pytest.raises(BundleError):
        deployment(target, history).run(Replace({"intents": str(path)}))
    assert target.applied == []
    assert history.records() == []


def test_a_worse_bundle_is_refused_unless_by_force(history, make_classifier):
    good = make_classifier(21, metrics={ACCURACY: 0.9})
    bad = make_classifier(22, metrics={ACCURACY: 0.8})
    target = SimulatedTarget(Serving(served_args(good), {"intents": good.manifest}))
    with pytest.raises(Refused, match=r"(?s)intent/accuracy is 0.8000.*--force"):
        deployment(target, history).run(to(bad))
    assert target.applied == []
    wide = deployment(target, history, budget={"accuracy": -0.2})
    assert wide.run(to(bad)).overridden == ()
    target.serving = Serving(served_args(good), {"intents": good.manifest})
    record = deployment(target, history, force=True).run(to(bad))
    assert record.outcome == "served"
    assert "intent/accuracy is 0.8000" in record.overridden[0]


def test_settings_make_a_rolling_update_and_need_room(target, history, first):
    wish = Configure(served_args(first, max_tokens=9))
    target.room = False
    with pytest.raises(ServeError, match="no room"):
        deployment(target, history).run(wish)
    assert target.applied == []
    target.room = True
    assert deployment(target, history).run(wish).way == "rolling"


def test_a_held_bundle_makes_a_rolling_update_by_itself(history, first, second):
    monitor = {"model": "intents", "database": "sqlite:///m.db"}
    args = ServiceArgs.model_validate(served_args(first).model_dump() | {"monitor": monitor})
    target = SimulatedTarget(Serving(args, {"intents": first.manifest}))
    said = []
    record = deployment(target, history, said=said).run(to(second))
    assert (record.way, record.outcome) == ("rolling", "served")
    assert record.args.revision == "release-2"  # or Ray would keep its replicas
    assert any("held by the application 'monitor'" in line for line in said)
    again = deployment(target, history).run(to(first))
    assert (again.way, again.args.revision) == ("rolling", "release-3")


def test_what_an_application_holds_can_have_no_candidate(history, first, second):
    monitor = {"model": "intents", "database": "sqlite:///m.db"}
    args = ServiceArgs.model_validate(served_args(first).model_dump() | {"monitor": monitor})
    target = SimulatedTarget(Serving(args, {"intents": first.manifest}))
    with pytest.raises(ConfigError, match="held by the application 'monitor'; so it can have no"):
        deployment(target, history).run(Candidates(to(second), percent=10, shadow=0))
    assert target.applied == []


def test_a_canary_is_promoted_or_aborted(target, history, first, second):
    samples = Samples()
    wish = Candidates(to(second), percent=10, shadow=50)
    record = deployment(target, history, ask=samples).run(wish)
    assert (record.kind, record.way, record.outcome) == ("canary", "swap", "served")
    assert samples.asked[-1] == [
        ("intents", first.fingerprint, False),
        ("intents", second.fingerprint, True),
    ]
    release = target.serving.args.releases["intents"]
    assert (release.fingerprint, release.percent, release.shadow) == (second.fingerprint, 10, 50)
    assert deployment(target, history).run(Abort()).args.releases == {}
    assert target.serving.args.fingerprints == {"intents": first.fingerprint}
    deployment(target, history).run(wish)
    assert deployment(target, history).run(Promote()).outcome == "served"
    assert target.serving.args.fingerprints == {"intents": second.fingerprint}
    assert target.serving.args.releases == {}


def test_a_rollback_serves_the_release_before(target, history, first, second):
    deployment(target, history).run(to(second))
    back = deployment(target, history).run(GoBack(history))  # to what the command had found
    assert (back.kind, back.number, back.outcome) == ("rollback", 3, "served")
    assert target.serving.args.fingerprints == {"intents": first.fingerprint}
    again = deployment(target, history).run(GoBack(history))
    assert again.outcome == "served"
    assert target.serving.args.fingerprints == {"intents": second.fingerprint}


def test_a_bundle_that_was_written_over_cannot_be_gone_back_to(target, history, second):
    overwritten = served_args(second).model_copy(update={"fingerprints": {"intents": "f" * 64}})
    with pytest.raises(ServeError, match="written anew"):
        deployment(target, history).run(Configure(overwritten))
    assert target.applied == []


def test_a_bundle_in_the_folder_of_the_one_that_is_served_is_warned_of(
    history, first, second, tmp_path
):
    folder = tmp_path / "intents"
    shutil.copytree(second.path, folder)
    args = served_args(first).model_copy(update={"bundles": {"intents": str(folder)}})
    target = SimulatedTarget(Serving(args, {"intents": first.manifest}))
    said = []
    record = deployment(target, history, said=said).run(Replace({"intents": str(folder)}))
    assert record.outcome == "served"
    assert any("was written over" in line for line in said)


def test_without_waiting_nothing_is_known_and_nothing_is_taken_back(target, history, second):
    target.fails_on = {2: "bad"}
    record = deployment(target, history, wait=False).run(to(second))
    assert record.outcome == "applied"
    assert len(target.applied) == 1


def test_an_interrupted_command_says_so(target, history, second):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deployment(target, history, ask=interrupt).run(to(second))
    assert history.records()[-1].outcome == "interrupted"


def test_a_service_that_has_scaled_to_zero_is_woken(target, history, second):
    asked = []
    status = target.status

    def asleep():
        found = status()
        if found.state == "running" and not asked:
            return type(found)("running", "", ())
        return found

    target.status = asleep
    record = deployment(target, history, ask=lambda golden: asked.append(golden) or []).run(
        to(second)
    )
    assert record.outcome == "served"
    assert asked[0] == []
