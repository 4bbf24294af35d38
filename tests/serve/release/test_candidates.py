"""Two bundles of one name: who answers, what is compared, and that real requests come first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest

from ray_sft.inference import Predictor
from serve.ingress import create_app
from serve.outcomes import ItemFailedError
from serve.release.choose import is_chosen
from serve.release.settings import Release
from tests.serve.conftest import TEXTS, TOKEN
from tests.serve.release.conftest import rewritten, wanted
from tests.serve.test_heads import market_bundle

__all__ = ["market_bundle"]

MESSAGES = [{"role": "user", "content": TEXTS[0]}]


@asynccontextmanager
async def asking(changing, keys) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(changing.args, models=changing.models, keys=keys, metrics=changing.metrics)
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://service", headers=headers
    ) as client:
        yield client


def predicted(bundle):
    return Predictor(bundle).predict([{"text": text} for text in TEXTS])


async def classify(client, request_id="", **more):
    headers = {"x-request-id": request_id} if request_id else {}
    reply = await client.post("/v1/classify", json={"input": list(TEXTS)} | more, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply


async def compared(changing, count, *, name="intents"):
    """The report once ``count`` shadows are over."""
    async with asyncio.timeout(20):
        while True:
            report = changing.models.arms[name].report()
            found = report.shadowed
            if found.compared + found.dropped + found.failed >= count:
                return report
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_without_a_candidate_nothing_is_said_of_variants(make_changing, first, keys):
    async with asking(make_changing({"intents": first.path}), keys) as client:
        assert "x-model-variant" not in (await classify(client)).headers


@pytest.mark.asyncio
@pytest.mark.parametrize("percent", [20, 100])
async def test_a_canary_answers_its_share_and_says_so(make_changing, first, second, keys, percent):
    releases = {"intents": Release(bundle=str(second.path), percent=percent)}
    changing = make_changing({"intents": first.path}, releases=releases)
    expected = {"current": predicted(first)[0].score, "candidate": predicted(second)[0].score}
    async with asking(changing, keys) as client:
        for number in range(30):
            request_id = f"request-{number}"
            chosen = is_chosen(request_id, second.fingerprint, percent=percent)
            reply = await classify(client, request_id)
            arm = reply.headers["x-model-variant"]
            assert arm == ("candidate" if chosen else "current")
            score = reply.json()["data"][0]["score"]
            assert score == pytest.approx(expected[arm], abs=1e-4)
            again = await classify(client, request_id)
            assert again.headers["x-model-variant"] == arm
        report = (await client.get("/v1/releases")).json()["data"][0]["candidates"]["intents"]
    arms = [report["current"]["requests"], report["candidate"]["requests"]]
    assert sum(arms) == 60
    assert arms[1] > 0
    assert report["candidate"]["p50_ms"] > 0
    shown = changing.metrics.render().decode()
    assert f'ray_sft_release_requests_total{{arm="candidate",model="intents"}} {arms[1]}.0' in shown


@pytest.mark.asyncio
async def test_a_shadow_is_compared_and_never_returned(make_changing, first, second, keys):
    releases = {"intents": Release(bundle=str(second.path), shadow=100)}
    changing = make_changing({"intents": first.path}, releases=releases)
    mine, theirs = predicted(first), predicted(second)
    async with asking(changing, keys) as client:
        for number in range(5):
            reply = await classify(client)
            assert reply.headers["x-model-variant"] == "current"
            labels = [item["label"] for item in reply.json()["data"]]
            assert labels == [answer.label for answer in mine]
            report = await compared(changing, number + 1)
    assert report.shadowed.compared == 5
    task = report.tasks["intent"]
    assert task.compared == 5 * len(TEXTS)
    agreed = [one.label == other.label for one, other in zip(mine, theirs, strict=True)]
    assert 0 < np.mean(agreed) < 1  # or the test would prove nothing
    assert task.agreement == pytest.approx(np.mean(agreed))
    differences = [
        max(abs({s.label: s.score for s in one.scores}[s.label] - s.score) for s in other.scores)
        for one, other in zip(mine, theirs, strict=True)
    ]
    figure = task.figures["score_difference"]
    assert figure.mean == pytest.approx(np.mean(differences), abs=1e-4)
    assert figure.most == pytest.approx(max(differences), abs=1e-4)
    assert report.shadowed.candidate.p50_ms > 0
    assert report.candidate.requests == 0


@pytest.mark.asyncio
async def test_a_shadow_that_finds_no_time_is_dropped_and_counted(
    make_changing, first, second, keys
):
    releases = {"intents": Release(bundle=str(second.path), shadow=100)}
    changing = make_changing({"intents": first.path}, releases=releases)
    async with asking(changing, keys) as client:
        replies = await asyncio.gather(*(classify(client) for _ in range(40)))
        assert {reply.headers["x-model-variant"] for reply in replies} == {"current"}
        report = await compared(changing, 40)
    assert report.shadowed.dropped > 0
    assert report.shadowed.compared > 0
    assert report.shadowed.compared + report.shadowed.dropped == 40
    assert f'outcome="dropped"}} {report.shadowed.dropped}.0' in changing.metrics.render().decode()


class Failing:
    """A queue of which every text fails."""

    num_queued = 0
    is_full = False
    is_idle = True

    def refusal(self):
        return None

    async def submit(self, rows, *, cut=False):
        assert not cut
        return [ItemFailedError("broken") for _ in rows]

    def close(self):
        """Nothing runs."""


@pytest.mark.asyncio
async def test_a_candidate_that_fails_as_a_shadow_fails_no_request(
    make_changing, first, second, keys
):
    releases = {"intents": Release(bundle=str(second.path), shadow=100)}
    changing = make_changing({"intents": first.path}, releases=releases)
    shadow = changing.models.arms["intents"]._shadows[0]
    shadow._candidate = Failing()
    async with asking(changing, keys) as client:
        for _ in range(3):
            await classify(client)
        report = await compared(changing, 3)
    assert report.shadowed.failed == 3
    assert report.current.errors == 0


@pytest.mark.asyncio
async def test_changing_the_share_keeps_what_is_known(make_changing, first, second, keys):
    release = {"bundle": str(second.path), "percent": 100}
    changing = make_changing({"intents": first.path}, releases={"intents": release})
    async with asking(changing, keys) as client:
        await classify(client)
        less = wanted(1, {"intents": first}, releases={"intents": release | {"percent": 10}})
        await changing.swapper.apply(less)
        report = changing.models.arms["intents"].report()
        assert (report.percent, report.candidate.requests) == (10, 1)
        await changing.swapper.apply(wanted(2, {"intents": first}))
        assert "x-model-variant" not in (await classify(client)).headers


async def chat(client, **more):
    body = {"model": "replies", "messages": MESSAGES, "max_tokens": 12} | more
    reply = await client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    return reply


@pytest.mark.asyncio
async def test_a_user_stays_with_one_bundle_whatever_the_request(
    make_changing, generator_bundle, other_generator, keys
):
    releases = {"replies": Release(bundle=str(other_generator.path), percent=50)}
    changing = make_changing({"replies": generator_bundle.path}, releases=releases, num_slots=2)
    texts = {}
    async with asking(changing, keys) as client:
        for number in range(12):
            user = f"user-{number}"
            chosen = is_chosen(f"user {user}", other_generator.fingerprint, percent=50)
            for stream in (False, True):
                reply = await chat(client, user=user, stream=stream)
                arm = reply.headers["x-model-variant"]
                assert arm == ("candidate" if chosen else "current")
                if not stream:
                    texts.setdefault(arm, set()).add(
                        reply.json()["choices"][0]["message"]["content"]
                    )
    assert {arm: len(found) for arm, found in texts.items()} == {"current": 1, "candidate": 1}
    assert texts["current"] != texts["candidate"]
    report = changing.models.arms["replies"].report()
    assert report.current.requests + report.candidate.requests == 24
    assert min(report.current.requests, report.candidate.requests) > 0


@pytest.mark.asyncio
@pytest.mark.parametrize("same", [True, False])
async def test_replies_are_compared_as_texts(
    make_changing, generator_bundle, other_generator, keys, tmp_path, same
):
    other = rewritten(generator_bundle, tmp_path / "same") if same else other_generator
    releases = {"replies": Release(bundle=str(other.path), shadow=100)}
    changing = make_changing({"replies": generator_bundle.path}, releases=releases, num_slots=2)
    async with asking(changing, keys) as client:
        for number in range(3):
            reply = await chat(client, stream=number == 1)
            assert reply.headers["x-model-variant"] == "current"
            report = await compared(changing, number + 1, name="replies")
    assert report.shadowed.compared == 3
    assert report.tasks["reply"].agreement == (1.0 if same else 0.0)
    assert report.current.requests == 3
    assert report.current.errors == 0


@pytest.mark.asyncio
async def test_a_shadow_of_replies_makes_way_for_requests(
    make_changing, generator_bundle, other_generator, keys
):
    releases = {"replies": Release(bundle=str(other_generator.path), shadow=100)}
    changing = make_changing({"replies": generator_bundle.path}, releases=releases, num_slots=2)
    async with asking(changing, keys) as client:
        await asyncio.gather(*(chat(client, max_tokens=48, seed=seed) for seed in range(10)))
        report = await compared(changing, 10, name="replies")
    assert report.shadowed.dropped > 0
    assert report.shadowed.failed == 0


@pytest.mark.asyncio
async def test_a_decoder_of_other_tokens_cannot_be_shadowed(
    make_changing, generator_bundle, tmp_path
):
    other = rewritten(generator_bundle, tmp_path / "other", note="{}")
    releases = {"replies": Release(bundle=str(other.path), shadow=100)}
    changing = make_changing({"replies": generator_bundle.path}, releases=releases)
    assert "splits texts into other tokens" in changing.swapper.report().problem


@pytest.mark.asyncio
async def test_a_shadow_of_equal_weights_agrees_in_everything(make_changing, first, keys, tmp_path):
    same = rewritten(first, tmp_path / "same")
    releases = {"intents": Release(bundle=str(same.path), shadow=100)}
    changing = make_changing({"intents": first.path}, releases=releases)
    async with asking(changing, keys) as client:
        await classify(client)
        report = await compared(changing, 1)
    assert report.tasks["intent"].agreement == 1.0
    assert report.tasks["intent"].figures["score_difference"].most < 1e-5


@pytest.mark.asyncio
async def test_every_head_of_a_bundle_is_compared(make_changing, market_bundle, keys, tmp_path):
    same = rewritten(market_bundle, tmp_path / "same")
    releases = {"market": Release(bundle=str(same.path), shadow=100)}
    changing = make_changing({"market": market_bundle.path}, releases=releases)
    requests = {
        "/v1/classify": {"model": "market/topic", "input": list(TEXTS)},
        "/v1/embeddings": {"model": "market/vector", "input": list(TEXTS)},
        "/v1/score": {"model": "market/click", "history": [TEXTS[0]], "candidates": list(TEXTS)},
    }
    async with asking(changing, keys) as client:
        for number, (path, body) in enumerate(requests.items(), start=1):
            reply = await client.post(path, json=body)
            assert reply.status_code == 200, reply.text
            assert reply.headers["x-model-variant"] == "current"
            report = await compared(changing, number, name="market")
    # classifiers are one queue, so one request to one of them is an answer of each
    assert {task: one.compared for task, one in report.tasks.items()} == {
        "topic": 5,
        "sentiment": 5,
        "moods": 5,
        "vector": 5,
        "click": 1,
    }
    assert report.tasks["moods"].agreement == 1.0
    assert report.tasks["vector"].agreement is None
    assert report.tasks["vector"].figures["cosine"].least == pytest.approx(1.0, abs=1e-5)
    assert report.tasks["click"].figures["rank_correlation"].mean == pytest.approx(1.0)
