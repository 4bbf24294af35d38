"""Both clients against a server of its own that speaks the interface."""

import httpx
import pytest

from apps import Message, RetryPolicy, ServiceError
from apps.replies.monitor import Alerts
from apps.replies.texts import Classification, Listed
from tests.apps.client.raw_server import http
from tests.apps.foreign_assistant import ForeignAssistant
from tests.apps.foreign_monitor import ForeignMonitor
from tests.apps.foreign_recommender import ForeignRecommender
from tests.waiting import wait_until

ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def ask(flavour, foreign_service):
    def run(call, **options):
        options = {"api_key": foreign_service.api_key, "retry": ONCE} | options
        (result,) = flavour.ask(foreign_service.url, call, **options)
        return result

    return run


@pytest.fixture
def collect(flavour, foreign_service):
    def run(turns, into):
        messages = [Message(*turn) for turn in turns]
        flavour.collect(
            foreign_service.url,
            lambda client: client.stream_chat(messages),
            into,
            api_key=foreign_service.api_key,
            retry=ONCE,
        )

    return run


def test_reads_models_and_classification(ask, foreign_service):
    models = ask(lambda client: client.models())
    assert [(model.id, model.task) for model in models] == [
        ("intents", "sequence_classification"),
        ("replies", "causal_lm"),
    ]
    answer = ask(lambda client: client.classify("How much?", top_k=2))
    assert (answer.label, answer.score, answer.labels) == (
        "delivery_cost",
        0.87,
        ["delivery_cost"],
    )
    assert [item.label for item in answer.scores] == ["delivery_cost", "track_order"]
    assert foreign_service.seen == [{"input": "How much?", "top_k": 2}]


def test_streams_the_answer_in_pieces(collect, foreign_service):
    foreign_service.answer = "包邮 从 30 镑 起"
    pieces = []
    collect([("user", "多少钱")], pieces)
    texts = [piece.text for piece in pieces if piece.text]
    assert len(texts) == 5
    assert "".join(texts) == foreign_service.answer
    assert foreign_service.seen[0]["messages"] == [{"role": "user", "content": "多少钱"}]


def test_leaving_the_stream_frees_the_slot_of_the_service(flavour, foreign_service):
    foreign_service.seconds_a_word = 0.05
    foreign_service.answer = "word " * 2000
    flavour.leave(
        foreign_service.url,
        lambda client: client.stream_chat([Message("user", "hello")]),
        then=lambda: wait_until(lambda: foreign_service.left == 1),
        api_key=foreign_service.api_key,
    )
    assert foreign_service.left == 1


def test_a_wrong_key_is_told_in_the_words_of_the_service(ask):
    with pytest.raises(ServiceError, match="the API key is wrong") as caught:
        ask(lambda client: client.models(), api_key="another")
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert not caught.value.is_away


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [(429, {"retry-after": "2"}, 2.0), (413, {}, None), (503, {"retry-after": "soon"}, None)],
)
def test_refusals_keep_status_message_and_retry_time(
    ask, collect, foreign_service, status, headers, seconds
):
    foreign_service.refusal = (status, "not now.", headers)
    for call in (
        lambda: ask(lambda client: client.classify("hello")),
        lambda: collect([("user", "hello")], []),
    ):
        with pytest.raises(ServiceError, match=r"not now\.") as caught:
            call()
        assert caught.value.status == status
        assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize(("after", "message"), [(2, "the model failed"), (-1, "broke off")])
def test_a_stream_that_fails_in_the_middle(collect, foreign_service, after, message):
    foreign_service.breaks_after = after
    pieces = []
    with pytest.raises(ServiceError, match=message):
        collect([("user", "hello")], pieces)
    assert pieces


def test_a_proxy_of_the_environment_is_not_asked(ask, foreign_service, free_port, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port}")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{foreign_service.url}/readyz")
    ask(lambda client: client.check_ready())


def test_a_path_is_not_left_by_what_is_asked_for(ask):
    with pytest.raises(ServiceError) as caught:
        ask(lambda client: client.assistant.document("../../v1/models?x=#y"))
    assert caught.value.status == 404


@pytest.mark.parametrize("is_there", [True, False])
def test_what_a_service_offers_is_found_by_trying(flavour, make_service, is_there):
    calls = [
        lambda client: client.assistant.is_offered(),
        lambda client: client.monitor.is_offered(),
        lambda client: client.recommend.is_offered(),
    ]
    service = make_service()
    if is_there:
        service.assistant = ForeignAssistant()
        service.monitor = ForeignMonitor()
        service.recommender = ForeignRecommender()
    with service.running():
        assert flavour.ask(service.url, *calls, api_key=service.api_key) == [is_there] * 3
    with pytest.raises(ServiceError, match="cannot be reached"):
        flavour.ask(service.url, *calls, api_key=service.api_key)


def test_alerts_come_under_a_name_or_bare():
    alert = {"id": "a", "topic": "t", "start": "2025-03-03T00:00:00.000Z", "kind": "k", "new": 1}
    for told in ([alert], {"alerts": [alert]}):
        assert Alerts.model_validate(told).alerts[0].id == "a"


def test_an_event_that_is_rejected_is_an_error(flavour, make_service):
    service = make_service()
    service.recommender = ForeignRecommender()

    def like(client):
        return client.recommend.tell("ann", "gone", "like", ranking_id="r", position=0)

    with service.running(), pytest.raises(ServiceError, match="item 'gone' is not known"):
        flavour.ask(service.url, like, api_key=service.api_key)


def test_a_text_on_which_the_model_failed_has_its_error_and_the_others_their_answer(
    flavour, serve_raw
):
    scores = [{"label": "a", "score": 0.9}]
    failed = {"message": "the model failed on this text.", "code": "item_failed"}
    server = serve_raw(
        http(
            200,
            {
                "data": [
                    {"index": 0, "label": "a", "score": 0.9, "scores": scores},
                    {"index": 1, "error": failed},
                ]
            },
        )
    )
    ((good, bad),) = flavour.ask(server.url, lambda client: client.classify_many(["x", "y"]))
    assert good.label == "a"
    assert isinstance(bad, ServiceError)
    assert (str(bad), bad.code, bad.status) == (failed["message"], "item_failed", 200)
    with pytest.raises(ServiceError, match="2 answers to one text"):
        flavour.ask(server.url, lambda client: client.classify("x"))


def test_a_model_of_several_labels_has_a_most_probable_one():
    scores = [{"label": "fear", "score": 0.4}, {"label": "calm", "score": 0.1}]
    reply = {"data": [{"index": 0, "labels": [], "scores": scores}]}
    (found,) = Listed[Classification].model_validate(reply).data
    assert isinstance(found, Classification)
    assert (found.label, found.score, found.labels) == ("fear", 0.4, [])


@pytest.mark.parametrize("name", ["classify_many", "entities_many", "embeddings", "tokenize_many"])
def test_one_text_in_place_of_many_is_refused_before_it_is_sent(flavour, name):
    with pytest.raises(TypeError, match=r"Write \[text\]"):
        flavour.ask("http://127.0.0.1:9", lambda client: getattr(client, name)("hello"))
