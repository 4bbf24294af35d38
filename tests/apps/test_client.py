"""The client against a real server that speaks the interface."""

import asyncio

import httpx
import pytest

from apps import Message, ServiceClient, ServiceError
from apps.replies.monitor import Alerts
from tests.apps.foreign_assistant import ForeignAssistant
from tests.apps.foreign_monitor import ForeignMonitor
from tests.apps.foreign_recommender import ForeignRecommender
from tests.waiting import wait_until


def _client(service, **options):
    return ServiceClient(service.url, **{"api_key": service.api_key} | options)


def _ask(service, call, **options):
    async def run():
        async with _client(service, **options) as client:
            return await call(client)

    return asyncio.run(run())


async def _collect(client, turns):
    return [piece async for piece in client.chat([Message(*turn) for turn in turns])]


def test_reads_models_and_classification(foreign_service):
    models = _ask(foreign_service, lambda client: client.models())
    assert [(model.id, model.task) for model in models] == [
        ("intents", "sequence_classification"),
        ("replies", "causal_lm"),
    ]
    answer = _ask(foreign_service, lambda client: client.classify("How much?", top_k=2))
    assert (answer.label, answer.score) == ("delivery_cost", 0.87)
    assert [item.label for item in answer.scores] == ["delivery_cost", "track_order"]
    assert foreign_service.seen == [{"input": "How much?", "top_k": 2}]


def test_streams_the_answer_in_pieces(foreign_service):
    foreign_service.answer = "包邮 从 30 镑 起"
    pieces = _ask(foreign_service, lambda client: _collect(client, [("user", "多少钱")]))
    assert len(pieces) == 5
    assert "".join(pieces) == foreign_service.answer
    assert foreign_service.seen[0]["messages"] == [{"role": "user", "content": "多少钱"}]


def test_leaving_the_stream_closes_the_connection(foreign_service):
    foreign_service.seconds_a_word = 0.05
    foreign_service.answer = "word " * 200

    async def leave():
        async with _client(foreign_service) as client:
            stream = client.chat([Message("user", "hello")])
            async for _ in stream:
                break
            await stream.aclose()

    asyncio.run(leave())
    wait_until(lambda: foreign_service.left == 1)


@pytest.mark.parametrize("call", ["check_ready", "models"])
def test_a_service_that_is_away(foreign_service, free_port, call):
    foreign_service.port = free_port
    with pytest.raises(ServiceError, match="cannot be reached") as caught:
        _ask(foreign_service, lambda client: getattr(client, call)())
    assert caught.value.is_away


def test_a_wrong_key_is_told_in_the_words_of_the_service(foreign_service):
    with pytest.raises(ServiceError, match="the API key is wrong") as caught:
        _ask(foreign_service, lambda client: client.models(), api_key="another")
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert not caught.value.is_away


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [(429, {"retry-after": "2"}, 2.0), (413, {}, None), (503, {"retry-after": "soon"}, None)],
)
def test_refusals_keep_status_message_and_retry_time(foreign_service, status, headers, seconds):
    foreign_service.refusal = (status, "not now.", headers)
    for call in (
        lambda client: client.classify("hello"),
        lambda client: _collect(client, [("user", "hello")]),
    ):
        with pytest.raises(ServiceError, match=r"not now\.") as caught:
            _ask(foreign_service, call)
        assert caught.value.status == status
        assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize(("after", "message"), [(2, "the model failed"), (-1, "broke off")])
def test_a_stream_that_fails_in_the_middle(foreign_service, after, message):
    foreign_service.breaks_after = after
    received = []

    async def listen(client):
        async for piece in client.chat([Message("user", "hello")]):
            received.append(piece)

    with pytest.raises(ServiceError, match=message):
        _ask(foreign_service, listen)
    assert received


def test_something_else_at_the_url(foreign_service):
    foreign_service.models = [{"name": "no id"}]
    with pytest.raises(ServiceError, match="does not speak like the service"):
        _ask(foreign_service, lambda client: client.models())


def test_a_proxy_of_the_environment_is_not_asked(foreign_service, free_port, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port}")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{foreign_service.url}/readyz")
    _ask(foreign_service, lambda client: client.check_ready())


def test_a_path_is_not_left_by_what_is_asked_for(foreign_service):
    with pytest.raises(ServiceError) as caught:
        _ask(foreign_service, lambda client: client.assistant.document("../../v1/models?x=#y"))
    assert caught.value.status == 404


@pytest.mark.parametrize("is_there", [True, False])
def test_what_a_service_offers_is_found_by_trying(make_service, is_there):
    parts = ("assistant", "monitor", "recommend")
    service = make_service()
    if is_there:
        service.assistant = ForeignAssistant()
        service.monitor = ForeignMonitor()
        service.recommender = ForeignRecommender()

    async def try_all(client):
        return [await getattr(client, part).is_offered() for part in parts]

    with service.running():
        assert _ask(service, try_all) == [is_there] * 3
    with pytest.raises(ServiceError, match="cannot be reached"):
        _ask(service, try_all)


def test_alerts_come_under_a_name_or_bare():
    alert = {"id": "a", "topic": "t", "start": "2025-03-03T00:00:00.000Z", "kind": "k", "new": 1}
    for told in ([alert], {"alerts": [alert]}):
        assert Alerts.model_validate(told).alerts[0].id == "a"


def test_an_event_that_is_rejected_is_an_error(make_service):
    service = make_service()
    service.recommender = ForeignRecommender()

    async def like(client):
        await client.recommend.tell("ann", "gone", "like", ranking_id="r", position=0)

    with service.running(), pytest.raises(ServiceError, match="item 'gone' is not known"):
        _ask(service, like)
