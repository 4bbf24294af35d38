"""The client against the service's own routes: what the pages ask is what the service answers."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from apps import AsyncClient, ServiceError
from apps.desk import Desk
from apps.figures import fetch_figures
from apps.item_files import NewItem
from apps.replay import AT_ONCE, replay
from tests.apps.real_service import build_real_service
from tests.apps.serving import free_port, serving

START = datetime(2025, 3, 3, 9, tzinfo=UTC)
QUESTION = "How much does delivery cost?"
ANSWER = "Delivery is free from 30 pounds. Below that it costs 3.90 pounds."
SHOP = [
    ("kettle", "Stovetop kettle", "kitchen"),
    ("grinder", "Coffee grinder", "kitchen"),
    ("skillet", "Iron skillet", "kitchen"),
    ("tent", "Tent for two", "outdoor"),
    ("lamp", "Camping lamp", "outdoor"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    port = free_port()
    with serving(build_real_service(tmp_path_factory.mktemp("service")), port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def ask(url):
    def run(conversation):
        async def within():
            async with AsyncClient(url) as client:
                return await conversation(client)

        return asyncio.run(within())

    return run


@pytest.fixture
def put(url):
    def send(path, body):
        reply = httpx.put(url + path, json=body, trust_env=False)
        assert reply.is_success, reply.text

    return send


def test_every_part_is_found(ask):
    async def talk(client):
        parts = (client.assistant, client.monitor, client.recommend)
        return [await part.is_offered() for part in parts]

    assert ask(talk) == [True, True, True]


def test_an_answer_cites_its_document_and_takes_a_verdict(ask, put):
    document = {"id": "delivery", "kind": "approved", "title": QUESTION, "text": ANSWER}
    put("/v1/assistant/knowledge", {"documents": [document]})

    async def talk(client):
        answer = await client.assistant.answer(QUESTION)
        document = await client.assistant.document(answer.citations[0].document_id)
        await client.assistant.rate(answer.id, "up")
        await client.assistant.rate(answer.id, "down", reason="wrong")
        unknown = await client.assistant.answer("Why is the sky blue?")
        with pytest.raises(ServiceError, match="does not exist"):
            await client.assistant.document("none")
        return answer, document, unknown

    answer, document, unknown = ask(talk)
    assert (answer.kind, answer.answer) == ("approved", ANSWER)
    assert (answer.intent.label, answer.intent.alternatives[0].label) == ("delivery", "refund")
    first = answer.citations[0]
    assert document.text[first.start : first.end] == first.text
    assert (first.number, first.title) == (1, QUESTION)
    assert (unknown.kind, unknown.citations) == ("unknown", [])


def test_what_is_played_in_becomes_windows_items_and_an_alert(ask):
    moods = [(day, "fine") for day in range(30) for _ in range(4)]
    moods += [(20, "bad") for _ in range(20)]
    items = [
        NewItem(
            id=f"item-{number}",
            time=START + timedelta(days=day, minutes=number),
            text=f"a {mood} day {number}",
            topics=["chips"],
            source="wire",
        )
        for number, (day, mood) in enumerate(moods)
    ]
    items.sort(key=lambda item: item.time)

    async def talk(client):
        steps = replay(items, client.monitor.post, speed=AT_ONCE)
        *_, last = [progress async for progress in steps]
        desk = Desk(topic="chips")
        told = await fetch_figures(client.monitor, desk)
        await client.monitor.acknowledge(told.alerts[0].id)
        desk.drawn = (told.topics, told.alerts)
        seen = await fetch_figures(client.monitor, desk)
        bad = await client.monitor.items("chips", sentiment="negative", limit=5)
        rest = await client.monitor.items("chips", sentiment="negative", limit=50, cursor=bad.next)
        return last, told, seen, bad, rest

    last, told, seen, bad, rest = ask(talk)
    assert (last.accepted, last.rejected) == (len(items), 0)
    assert told.topic.num_items == len(items)
    windows = {window.start: window for window in told.windows.windows}
    worst = windows[datetime(2025, 3, 23, tzinfo=UTC)]
    assert [window.count for window in windows.values()].count(4) == 29
    assert (worst.count, worst.negative, worst.neutral) == (24, 20, 4)
    assert worst.net_sentiment == pytest.approx(-20 / 24)
    assert worst.low < worst.net_sentiment < worst.high
    alert = told.alerts[0]
    assert (alert.kind, alert.count, alert.negative) == ("negative_surge", 24, 20)
    assert alert.start == worst.start
    assert not alert.acknowledged
    assert seen.alerts[0].acknowledged  # and so the figures are drawn again
    assert (len(bad.items), len(rest.items)) == (5, 15)
    assert bad.items[0].polarity == "negative"
    assert rest.next is None


def test_a_like_and_a_hide_change_the_ranking_and_the_history(ask, put):
    items = [{"id": name, "title": title, "category": kind} for name, title, kind in SHOP]
    put("/v1/recommend/items", {"items": items})

    async def talk(client):
        recommend = client.recommend
        cold = await recommend.rank("ann", top_k=5, diversity=0.0)
        await recommend.tell("ann", "kettle", "like", ranking_id=cold.ranking_id, position=0)
        await recommend.tell("ann", "tent", "hide", ranking_id=cold.ranking_id, position=1)
        warm = await recommend.rank("ann", top_k=5, diversity=0.5)
        with pytest.raises(ServiceError, match="gone"):
            await recommend.tell("ann", "gone", "like", ranking_id="x", position=0)
        past = await recommend.history("ann", limit=5)
        return cold, warm, past, await recommend.users(limit=10)

    cold, warm, past, users = ask(talk)
    assert (cold.cold_start, warm.cold_start) == (True, False)
    assert len(cold.items) == 5
    assert {item.id for item in warm.items} == {"grinder", "skillet", "lamp"}
    assert any(reason.kind == "category" for item in warm.items for reason in item.reasons)
    assert [(event.kind, event.title) for event in past] == [
        ("hide", "Tent for two"),
        ("like", "Stovetop kettle"),
    ]
    assert [(user.user, user.num_events) for user in users] == [("ann", 2)]
