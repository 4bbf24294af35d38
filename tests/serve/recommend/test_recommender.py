"""The recommender over time: restarts, models that change, limits, training."""

import asyncio
import time

import numpy as np
import pytest
from sqlalchemy import update

from ray_sft.core import ServeError
from serve.errors import ApiError
from serve.outcomes import QueueFullError
from serve.recommend.requests import EventsRequest, ItemsRequest, RankRequest
from serve.recommend.tables import RANKERS

from .conftest import Embedder, shop_events, shop_items

pytestmark = pytest.mark.asyncio


async def fill(recommender, num_events=1000):
    await recommender.put_items(ItemsRequest(items=shop_items()))
    events = shop_events()
    for start in range(0, num_events, 1000):
        await recommender.add_events(EventsRequest(events=events[start : start + 1000]))


def essence(reply):
    return [(item.id, item.score, item.reasons, item.contributions) for item in reply.items]


async def test_a_restart_changes_nothing(opened):
    clock = time.time()
    first = await opened(clock=lambda: clock)
    await fill(first, num_events=2500)
    outcome = await first.train()
    before = await first.rank(RankRequest(user="user-064"))
    status = await first.status()
    second = await opened(clock=lambda: clock)
    after = await second.rank(RankRequest(user="user-064"))
    assert essence(after) == essence(before)
    assert after.ranker == before.ranker == outcome.ranker
    assert await second.status() == status
    assert status.last_training.figures == outcome.figures


async def test_what_one_process_is_told_the_other_knows(opened):
    first, second = await opened(), await opened()
    await fill(first)
    top = (await second.rank(RankRequest(user="zoe"))).items[0].id
    hide = {"id": "z1", "user": "zoe", "item": top, "kind": "hide"}
    await first.add_events(EventsRequest(events=[hide]))
    assert top not in [item.id for item in (await second.rank(RankRequest(user="zoe"))).items]


async def test_only_new_texts_are_embedded(opened, embedder):
    recommender = await opened()
    items = shop_items()[:100]
    reply = await recommender.put_items(ItemsRequest(items=items))
    assert (reply.added, reply.changed, reply.unchanged, reply.total) == (100, 0, 0, 100)
    assert embedder.num_texts == 100
    items[0] = items[0] | {"category": "elsewhere"}
    items[1] = items[1] | {"title": "Something else"}
    reply = await recommender.put_items(ItemsRequest(items=items))
    assert (reply.added, reply.changed, reply.unchanged, reply.total) == (0, 2, 98, 100)
    assert embedder.num_texts == 101
    page = await recommender.list_items(limit=1, cursor="", query="")
    assert page.items[0].category == "elsewhere"


async def test_another_embedding_model_makes_all_vectors_again(opened):
    first = await opened()
    await fill(first)
    other = Embedder()
    second = await opened(embed=other, fingerprint="words-2")
    while (await second.status()).items_without_vector:
        await asyncio.sleep(0)
    assert other.num_texts == len(shop_items())
    reply = await second.rank(RankRequest(history=["item-001"]))
    assert reply.items[0].text_score > 0


async def test_a_failing_model_leaves_no_half_of_a_request(opened):
    async def full(_):
        raise QueueFullError(5, max_queued=4, retry_after_s=2)

    recommender = await opened(embed=full)
    with pytest.raises(QueueFullError):
        await recommender.put_items(ItemsRequest(items=shop_items()))
    assert (await recommender.status()).items == 0


async def test_the_ranking_model_reorders_the_best(opened):
    asked = []

    async def score(pairs):
        await asyncio.sleep(0)
        asked.extend(pairs)
        return [1.0 if "Grinder" in text else 0.0 for _, text in pairs]

    recommender = await opened(score=score)
    await fill(recommender)
    body = RankRequest(history=["item-005", "item-001"], diversity=0.0, exclude_seen=False)
    reply = await recommender.rank(body)
    histories = {tuple(history) for history, _ in asked}
    assert len(asked) == recommender.args.score_pool
    ((_, latest),) = histories
    assert latest.startswith("Stovetop Kettle")
    scores = [item.features["model_score"] for item in reply.items]
    assert set(scores) <= {0.0, 1.0}
    contributions = [item.contributions["model_score"] for item in reply.items]
    assert contributions == [0.3 * score for score in scores]
    assert not (await recommender.rank(RankRequest())).items[0].features.get("model_score")


async def test_training_asks_the_ranking_model_from_its_thread(opened):
    asked = 0

    async def score(pairs):
        nonlocal asked
        await asyncio.sleep(0)
        asked += len(pairs)
        return [0.5] * len(pairs)

    recommender = await opened(score=score)
    await fill(recommender, num_events=2500)
    await recommender.train()
    assert 0 < asked <= recommender.args.max_scored_pairs


async def test_one_training_at_a_time(opened):
    recommender = await opened()
    await fill(recommender, num_events=2500)
    first = asyncio.create_task(recommender.train())
    while not (await recommender.status()).training:
        await asyncio.sleep(0)
    with pytest.raises(ApiError) as caught:
        await recommender.train()
    assert (caught.value.status, caught.value.code) == (409, "training")
    ranked = await recommender.rank(RankRequest(user="user-064"))  # requests go on meanwhile
    assert ranked.ranker == "weights"
    reply = await first
    status = await recommender.status()
    assert not status.training
    assert status.last_training == reply
    assert status.ranker == reply.ranker


async def test_a_training_outlives_the_request(opened):
    recommender = await opened()
    await fill(recommender, num_events=2500)
    request = asyncio.create_task(recommender.train())
    while not (await recommender.status()).training:
        await asyncio.sleep(0)
    request.cancel()
    while (await recommender.status()).training:
        await asyncio.sleep(0.01)
    assert (await recommender.status()).last_training.num_queries > 50


async def test_a_damaged_ranker_stops_the_start(opened, store):
    recommender = await opened()
    await fill(recommender, num_events=2500)
    reply = await recommender.train()
    with store.engine.begin() as connection:
        connection.execute(update(RANKERS).values(text="tree\n", sha256="0" * 64))
    with pytest.raises(ServeError, match=r"damaged.*train again"):
        await opened()
    assert reply.num_users > 0


async def test_more_than_may_wait_is_refused_at_once(opened, args):
    recommender = await opened(args=args.model_copy(update={"max_waiting": 3}))
    await fill(recommender)
    asked = [asyncio.create_task(recommender.rank(RankRequest(user="zoe"))) for _ in range(6)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    refused = [o for o in outcomes if isinstance(o, ApiError)]
    assert len(refused) == 3
    assert {error.status for error in refused} == {429}
    assert refused[0].headers["retry-after"] == "1"


async def test_a_full_catalogue_takes_changes_but_nothing_new(opened, args):
    recommender = await opened(args=args.model_copy(update={"max_items": 2}))
    items = [{"id": "a", "title": "A"}, {"id": "b", "title": "B"}]
    await recommender.put_items(ItemsRequest(items=items))
    items[0]["title"] = "AA"
    assert (await recommender.put_items(ItemsRequest(items=items))).changed == 1
    with pytest.raises(ApiError) as caught:
        await recommender.put_items(ItemsRequest(items=[{"id": "c", "title": "C"}]))
    assert caught.value.code == "catalogue_full"
    assert "3 items; it may have 2" in caught.value.message


async def test_vectors_are_kept_as_they_were_made(opened, store):
    recommender = await opened()
    await recommender.put_items(ItemsRequest(items=shop_items()[:1]))
    kept = store.items.find(["item-001"])["item-001"]
    assert kept.model == "words-1"
    assert np.linalg.norm(kept.embedding) == pytest.approx(1.0)
