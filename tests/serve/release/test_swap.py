"""Exchanging bundles of running models: nothing fails, nothing stays behind, nothing bad enters."""

import asyncio
import gc
import shutil
import weakref

import pytest

from ray_sft.inference import GenerationRequest, Predictor
from serve.outcomes import Answer
from serve.release.settings import Release
from serve.release.swappable import Holder
from tests.serve.conftest import TEXTS
from tests.serve.release.conftest import wanted


def expected_scores(bundle):
    return [answer.score for answer in Predictor(bundle).predict([{"text": t} for t in TEXTS])]


async def scores(models):
    _, model = models.labeller(None)
    answers = await model.submit([{"text": text} for text in TEXTS])
    assert all(isinstance(answer, Answer) for answer in answers), answers
    return [answer.response.score for answer in answers]


@pytest.mark.asyncio
async def test_no_request_fails_while_bundles_are_exchanged_under_load(
    make_changing, first, second
):
    changing = make_changing({"intents": first.path})
    expected = {1: expected_scores(first), 2: expected_scores(second)}
    assert expected[1] != pytest.approx(expected[2], abs=0.05)
    seen = {1: 0, 2: 0}
    is_over = False

    async def ask():
        while not is_over:
            found = await scores(changing.models)
            which = 1 if found == pytest.approx(expected[1], abs=1e-4) else 2
            assert found == pytest.approx(expected[which], abs=1e-4)  # never some of each
            seen[which] += 1

    clients = [asyncio.create_task(ask()) for _ in range(8)]
    for release, bundle in enumerate((second, first, second), start=1):
        await changing.swapper.apply(wanted(release, {"intents": bundle}))
        assert changing.swapper.report().state == "steady"
        await asyncio.sleep(0.1)
    is_over = True
    await asyncio.gather(*clients)
    assert min(seen.values()) > 10
    assert await scores(changing.models) == pytest.approx(expected[2], abs=1e-4)
    report = changing.swapper.report()
    assert (report.release, report.wanted) == (3, 3)
    assert report.models["intents"].fingerprint == second.fingerprint


@pytest.mark.asyncio
async def test_a_request_that_has_found_the_old_bundle_is_answered_by_it(
    make_changing, first, second
):
    changing = make_changing({"intents": first.path})
    _, old = changing.models.labeller(None)
    await changing.swapper.apply(wanted(1, {"intents": second}))
    (answer,) = await old.submit([{"text": TEXTS[0]}])
    assert answer.response.score == pytest.approx(expected_scores(first)[0], abs=1e-4)


@pytest.mark.asyncio
async def test_an_old_bundle_is_closed_when_it_is_idle_and_its_memory_is_free(
    make_changing, first, second
):
    changing = make_changing({"intents": first.path})
    module = weakref.ref(changing.models.bundles["intents"].models["intents"].batcher._model.model)
    waiting = asyncio.gather(*(scores(changing.models) for _ in range(50)))
    await asyncio.sleep(0)  # all of them wait in the old bundle's queue
    await changing.swapper.apply(wanted(1, {"intents": second}))
    assert changing.models.retiring
    await waiting
    await changing.swapper.settled()
    assert not changing.models.retiring
    gc.collect()
    assert module() is None


@pytest.mark.asyncio
async def test_a_generator_finishes_its_replies_before_it_goes(
    make_changing, generator_bundle, tmp_path
):
    copied = tmp_path / "copy"
    shutil.copytree(generator_bundle.path, copied)
    changing = make_changing({"replies": generator_bundle.path}, num_slots=2)
    _, old = changing.models.generator(None, "/v1/chat/completions")
    requests = [GenerationRequest(prompt_ids=(5, 6, 7), max_tokens=40, seed=n) for n in range(6)]
    streams = [old.engine.submit(request) for request in requests]
    await changing.swapper.apply(wanted(1, {"replies": copied}))
    _, new = changing.models.generator(None, "/v1/chat/completions")
    assert new.engine is not old.engine
    for stream in streams:
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].finish_reason
    await changing.swapper.settled()


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["drifted", "damaged", "missing", "another"])
async def test_a_bad_bundle_changes_nothing_and_says_why(
    make_changing, classifier_bundle, drifted_bundle, damaged_bundle, second, tmp_path, kind
):
    changing = make_changing({"intents": classifier_bundle.path})
    before = await scores(changing.models)
    bad, fingerprints, reason = {
        "drifted": (drifted_bundle, {}, "answered differently"),
        "damaged": (damaged_bundle, {}, "is damaged"),
        "missing": (tmp_path / "nowhere", {}, "does not exist"),
        "another": (second.path, {"intents": "0" * 64}, "its fingerprint is"),
    }[kind]
    await changing.swapper.apply(wanted(7, {"intents": bad}, fingerprints=fingerprints))
    report = changing.swapper.report()
    assert (report.state, report.release, report.wanted) == ("failed", 0, 7)
    assert reason in report.problem
    assert await scores(changing.models) == pytest.approx(before, abs=1e-6)
    assert 'ray_sft_swaps_total{outcome="failed"} 1.0' in changing.metrics.render().decode()
    await changing.swapper.apply(wanted(0, {"intents": classifier_bundle}))
    assert changing.swapper.report().state == "steady"


@pytest.mark.asyncio
async def test_one_bad_bundle_of_two_keeps_both_as_they_were(
    make_changing, first, second, drifted_bundle
):
    changing = make_changing({"one": first.path, "other": first.path})
    before = changing.swapper.report().models
    await changing.swapper.apply(wanted(1, {"one": second, "other": drifted_bundle}))
    assert changing.swapper.report().state == "failed"
    assert changing.swapper.report().models == before


@pytest.mark.asyncio
async def test_what_has_not_changed_is_not_loaded_again(make_changing, first, second):
    changing = make_changing({"one": first.path, "other": first.path})
    kept = changing.models.bundles["other"]
    await changing.swapper.apply(wanted(1, {"one": second, "other": first}))
    assert changing.models.bundles["other"] is kept
    assert changing.models.names == ["one", "other"]


@pytest.mark.asyncio
async def test_a_folder_that_was_written_anew_is_another_bundle(
    make_changing, first, second, tmp_path
):
    folder = tmp_path / "intents"
    shutil.copytree(first.path, folder)
    changing = make_changing({"intents": folder})
    shutil.rmtree(folder)
    shutil.copytree(second.path, folder)
    assert changing.models.describe()[0]["fingerprint"] == first.fingerprint
    fingerprints = {"intents": second.fingerprint}
    await changing.swapper.apply(wanted(1, {"intents": folder}, fingerprints=fingerprints))
    assert changing.models.describe()[0]["fingerprint"] == second.fingerprint


@pytest.mark.asyncio
async def test_other_names_and_other_tasks_need_new_replicas(
    make_changing, first, generator_bundle
):
    changing = make_changing({"intents": first.path})
    await changing.swapper.apply(wanted(1, {"purposes": first}))
    assert "Names change by a rolling update" in changing.swapper.report().problem
    await changing.swapper.apply(wanted(2, {"intents": generator_bundle}))
    assert "intent (sequence_classification)" in changing.swapper.report().problem
    assert changing.swapper.report().release == 0


@pytest.mark.asyncio
async def test_what_an_application_holds_is_not_taken_from_it(
    make_changing, first, second, make_classifier
):
    held = {"intents": Holder("monitor", labels_are_enough=False)}
    changing = make_changing({"intents": first.path}, held=held)
    await changing.swapper.apply(wanted(1, {"intents": second}))
    assert "held by the application 'monitor'" in changing.swapper.report().problem

    held = {"intents": Holder("assistant", labels_are_enough=True)}
    changing = make_changing({"intents": first.path}, held=held)
    await changing.swapper.apply(wanted(1, {"intents": second}))
    assert changing.swapper.report().state == "steady"
    relabelled = make_classifier(3, labels=("a", "b", "c"))
    await changing.swapper.apply(wanted(2, {"intents": relabelled}))
    assert "its labels differ" in changing.swapper.report().problem


@pytest.mark.asyncio
async def test_a_promoted_candidate_is_not_loaded_again(make_changing, first, second):
    releases = {"intents": Release(bundle=str(second.path), percent=50)}
    changing = make_changing({"intents": first.path}, releases=releases)
    candidate = changing.models.arms["intents"].candidate
    assert 'ray_sft_queued{model="intents (candidate)"} 0.0' in changing.metrics.render().decode()
    await changing.swapper.apply(wanted(1, {"intents": second}))
    assert changing.models.bundles["intents"] is candidate
    assert not changing.models.has_candidates
    shown = changing.metrics.render().decode()
    assert "(candidate)" not in shown.split("# HELP ray_sft_active_slots")[0]
    assert 'ray_sft_queued{model="intents"} 0.0' in shown
    await changing.swapper.settled()
    assert await scores(changing.models) == pytest.approx(expected_scores(second), abs=1e-4)


@pytest.mark.asyncio
async def test_a_candidate_that_fails_its_check_is_left_out_at_the_start(
    make_changing, classifier_bundle, drifted_bundle
):
    releases = {"intents": Release(bundle=str(drifted_bundle), percent=50)}
    changing = make_changing({"intents": classifier_bundle.path}, releases=releases)
    assert changing.swapper.report().state == "failed"
    assert "answered differently" in changing.swapper.report().problem
    assert len(await scores(changing.models)) == len(TEXTS)
