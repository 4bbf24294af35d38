"""Both clients against a network that fails: retries, deadlines, ids, and what is told."""

import logging
import re
import threading
import time

import pytest

from apps.client import Client, RetryPolicy, ServiceError
from tests.apps.client.raw_server import (
    RawServer,
    break_off,
    dribble,
    http,
    raw,
    refusal,
    silence,
)
from tests.apps.serving import free_port

MODELS = {"data": [{"id": "intents", "task": "sequence_classification"}]}
GOOD = http(200, MODELS)
HALF = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{", close=True)
ONCE = RetryPolicy(max_attempts=1)
QUICK = RetryPolicy(first_wait_s=0.01)
KEY = "rsft-a-key-that-must-not-be-seen"


def models(client):
    return client.models()


@pytest.mark.parametrize(
    "failure",
    [break_off, HALF, *(refusal(status) for status in (429, 502, 503, 504))],
    ids=["break_off", "half", "429", "502", "503", "504"],
)
def test_what_may_pass_is_asked_again_under_the_same_id(flavour, serve_raw, failure):
    server = serve_raw(failure, failure, GOOD)
    ((model,),) = flavour.ask(server.url, models, retry=QUICK)
    assert model.id == "intents"
    ids = [request.header("x-request-id") for request in server.requests]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert re.fullmatch(r"[A-Za-z0-9._:-]{16,128}", ids[0])  # what the service takes


@pytest.mark.parametrize("status", [400, 401, 404, 408, 413, 424, 500])
def test_what_will_not_pass_is_asked_once(flavour, serve_raw, status):
    server = serve_raw(refusal(status, "some_code"))
    with pytest.raises(ServiceError, match=rf"not now \({status}\)\.") as caught:
        flavour.ask(server.url, models, retry=QUICK)
    assert (caught.value.status, caught.value.code) == (status, "some_code")
    assert caught.value.request_id == server.requests[0].header("x-request-id")
    assert len(server.requests) == 1


def test_a_post_is_repeated_with_the_same_body(flavour, serve_raw):
    told = http(200, {"accepted": 1, "duplicates": 0, "rejected": []})
    server = serve_raw(break_off, told)
    flavour.ask(
        server.url,
        lambda client: client.recommend.tell("ann", "tea", "like", ranking_id="r", position=0),
        retry=QUICK,
    )
    bodies = [request.body for request in server.requests]
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]  # the event keeps its id, by which it is kept once
    assert b'"id"' in bodies[0]


def test_attempts_end_and_the_last_failure_is_told(flavour, serve_raw):
    server = serve_raw(refusal(503, "stopping"))
    with pytest.raises(ServiceError) as caught:
        flavour.ask(server.url, models, retry=RetryPolicy(max_attempts=3, first_wait_s=0.01))
    assert (caught.value.status, caught.value.code) == (503, "stopping")
    assert len(server.requests) == 3


def test_the_budget_bounds_what_an_overload_gets(flavour, serve_raw):
    server = serve_raw(refusal(503))
    policy = RetryPolicy(max_attempts=4, first_wait_s=0.0, share=0.1, burst=3)

    def failing(client):
        with pytest.raises(ServiceError):
            client.models()

    async def failing_later(client):
        with pytest.raises(ServiceError):
            await client.models()

    call = failing if flavour.__class__.__name__ == "Sync" else failing_later
    flavour.ask(server.url, *[call] * 40, retry=policy)
    assert 40 + 3 <= len(server.requests) <= 40 + 3 + 4


def test_retry_after_is_waited_for(flavour, serve_raw):
    server = serve_raw(refusal(429, retry_after="0.3"), GOOD)
    start = time.monotonic()
    flavour.ask(server.url, models, retry=QUICK)
    assert 0.3 <= time.monotonic() - start < 10.0


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("7", 7.0), ("Fri, 01 Jan 2100 00:00:00 GMT", None), ("soon", None), ("nan", None)],
)
def test_a_long_retry_after_is_told_and_not_waited_for(flavour, serve_raw, told, seconds):
    server = serve_raw(refusal(429, retry_after=told))
    start = time.monotonic()
    policy = RetryPolicy(max_attempts=2, first_wait_s=0.01, longest_wait_s=5.0)
    with pytest.raises(ServiceError) as caught:
        flavour.ask(server.url, models, retry=policy)
    assert time.monotonic() - start < 5.0
    if seconds is not None:
        assert caught.value.retry_after_s == seconds
    elif told.startswith("Fri"):
        assert caught.value.retry_after_s > 1e8
    else:
        assert caught.value.retry_after_s is None
    assert len(server.requests) == (2 if caught.value.retry_after_s is None else 1)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 600\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [silence, dribble(HEAD * 9, 0.05), raw(HEAD, *[b" "] * 600, gap_s=0.05)],
    ids=["silence", "head", "body"],
)
def test_the_deadline_bounds_the_whole_call(flavour, serve_raw, answer):
    """Bytes come all the time, so a limit between two of them would never strike."""
    server = serve_raw(answer)
    start = time.monotonic()
    with pytest.raises(ServiceError, match="does not answer in time") as caught:
        flavour.ask(server.url, models, timeout_s=0.5, retry=QUICK)
    assert 0.4 < time.monotonic() - start < 10.0
    assert caught.value.is_away
    assert caught.value.code == "timeout"
    assert len(server.requests) == 1  # what took this long once is not begun again


def test_the_deadline_holds_over_all_attempts(flavour, serve_raw):
    server = serve_raw(refusal(503, retry_after="0.5"))
    start = time.monotonic()
    with pytest.raises(ServiceError) as caught:
        flavour.ask(server.url, models, timeout_s=2.0, retry=RetryPolicy(max_attempts=50))
    assert time.monotonic() - start < 10.0  # fifty waits would take 25 s and more
    assert caught.value.status == 503 or caught.value.code == "timeout"  # in a wait or in a try
    assert 2 <= len(server.requests) <= 4


def test_a_call_may_have_limits_of_its_own(flavour, serve_raw):
    server = serve_raw(silence)
    start = time.monotonic()
    with pytest.raises(ServiceError, match="in time"):
        flavour.ask(server.url, lambda client: client.with_options(timeout_s=0.2).models())
    assert time.monotonic() - start < 10.0
    server = serve_raw(refusal(503))
    with pytest.raises(ServiceError):
        flavour.ask(server.url, lambda client: client.with_options(max_attempts=1).models())
    assert len(server.requests) == 1


def test_a_service_that_comes_back_is_found_again(flavour):
    port = free_port()
    server = RawServer([GOOD], port)
    stop = threading.Event()

    def start_later():
        time.sleep(0.4)
        with server.running():
            stop.wait(20)

    thread = threading.Thread(target=start_later)
    thread.start()
    try:
        patient = RetryPolicy(max_attempts=60, first_wait_s=0.05, longest_wait_s=0.1, burst=60)
        ((model,),) = flavour.ask(f"http://127.0.0.1:{port}", models, retry=patient)
        assert model.id == "intents"
    finally:
        stop.set()
        thread.join(20)


def leaving(serving, then=None):
    """A call for which the server has gone before it begins."""

    def call(client):
        serving.__exit__(None, None, None)
        if then is not None:
            then.start()
        return client.models()

    return call


def test_a_service_that_has_answered_is_waited_for(flavour):
    """Longer than its attempts would last, and without any of the budget."""
    policy = RetryPolicy(max_attempts=2, burst=0, share=0.0)
    port = free_port()
    stop = threading.Event()

    def come_back():
        time.sleep(1.5)  # attempts that count would be over after 0.1 s
        with RawServer([GOOD], port).running():
            stop.wait(20)

    thread = threading.Thread(target=come_back)
    serving = RawServer([GOOD], port).running()
    url = serving.__enter__().url
    start = time.monotonic()
    try:
        first, second = flavour.ask(url, models, leaving(serving, thread), retry=policy)
        assert first == second
        assert time.monotonic() - start > 1.5
    finally:
        stop.set()
        thread.join(20)


@pytest.mark.parametrize("patience_s", [0.0, 0.5])
def test_a_service_that_stays_away_is_told_after_the_patience(flavour, patience_s):
    policy = RetryPolicy(max_attempts=2, first_wait_s=0.01, reconnect_s=patience_s)
    serving = RawServer([GOOD], free_port()).running()
    url = serving.__enter__().url
    start = time.monotonic()
    with pytest.raises(ServiceError, match="cannot be reached"):
        flavour.ask(url, models, leaving(serving), retry=policy)
    assert patience_s * 0.5 <= time.monotonic() - start < 10.0


def test_a_service_that_has_never_answered_is_not_waited_for(flavour):
    start = time.monotonic()
    with pytest.raises(ServiceError, match="cannot be reached"):
        flavour.ask(f"http://127.0.0.1:{free_port()}", models, retry=RetryPolicy(reconnect_s=60))
    assert time.monotonic() - start < 10.0


def test_a_500_that_is_not_the_services_own_may_pass(flavour, serve_raw):
    """Ray's proxy says so where the replica that it had chosen is gone."""
    bare = raw(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 5\r\n\r\nsorry")
    server = serve_raw(bare, GOOD)
    ((model,),) = flavour.ask(server.url, models, retry=QUICK)
    assert model.id == "intents"
    assert len(server.requests) == 2


def test_a_connection_that_the_server_closed_meanwhile_is_no_failure(flavour, serve_raw):
    server = serve_raw(raw(b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"data":[]}', close=True))
    assert flavour.ask(server.url, models, models, models, retry=QUICK) == [[], [], []]


def test_a_service_that_is_away_is_told_after_the_attempts(flavour):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceError, match=f"{url} cannot be reached. Start it") as caught:
        flavour.ask(url, models, retry=QUICK)
    assert caught.value.is_away
    assert caught.value.code == "unreachable"
    assert caught.value.request_id


@pytest.mark.parametrize("call", ["check_ready", "assistant.is_offered", "monitor.is_offered"])
def test_a_question_about_the_present_state_is_asked_once(flavour, serve_raw, call):
    def ask(client):
        for name in call.split(".")[:-1]:
            client = getattr(client, name)
        return getattr(client, call.split(".")[-1])()

    server = serve_raw(refusal(503, "not_ready"))
    if call == "check_ready":
        with pytest.raises(ServiceError, match="not now"):
            flavour.ask(server.url, ask)
    else:
        assert flavour.ask(server.url, ask) == [True]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        http(200, "<html>welcome</html>"),
        http(200, {"data": [{"name": "no id"}]}),
        http(200, "[]"),
        raw(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope"),
    ],
    ids=["html", "shape", "list", "encoding"],
)
def test_something_else_at_the_url(flavour, serve_raw, answer):
    server = serve_raw(answer)
    with pytest.raises(ServiceError, match="does not speak like the service"):
        flavour.ask(server.url, models)
    assert len(server.requests) == 1


def test_a_refusal_of_a_proxy_is_told_by_its_status(flavour, serve_raw):
    server = serve_raw(http(502, "<html>bad gateway</html>"))
    with pytest.raises(ServiceError, match=r"The service answered 502\.") as caught:
        flavour.ask(server.url, models, retry=ONCE)
    assert caught.value.code is None


def test_the_key_goes_with_every_call_and_into_no_log(flavour, serve_raw, caplog):
    server = serve_raw(refusal(503), GOOD)
    with caplog.at_level(logging.DEBUG):
        flavour.ask(server.url, models, api_key=KEY, retry=QUICK)
    assert [request.header("authorization") for request in server.requests] == [f"Bearer {KEY}"] * 2
    assert "attempt 2" in caplog.text
    assert KEY not in caplog.text


def test_the_key_of_the_environment_is_taken_where_none_is_given(flavour, serve_raw, monkeypatch):
    monkeypatch.setenv("RAY_SFT_API_KEY", KEY)
    server = serve_raw(GOOD)
    flavour.ask(server.url, models)
    flavour.ask(server.url, models, api_key="rsft-another")
    flavour.ask(server.url, models, api_key="")
    sent = [request.header("authorization") for request in server.requests]
    assert sent == [f"Bearer {KEY}", "Bearer rsft-another", None]


def test_threads_share_a_client(serve_raw):
    """httpcore alone closes a connection of a full pool now and then while a thread uses it."""
    server = serve_raw(GOOD)
    found, errors = [], []

    def ask(client):
        try:
            found.extend(client.models() for _ in range(100))
        except ServiceError as error:
            errors.append(error)

    with Client(server.url, max_connections=4, retry=ONCE) as client:
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not errors
    assert len(found) == 800
    assert len({request.header("x-request-id") for request in server.requests}) == 800


def test_a_deadline_of_one_thread_is_none_of_another(serve_raw):
    slow = raw(b"HTTP/1.1 200 OK\r\n", b'content-length: 11\r\n\r\n{"data":[]}', gap_s=0.5)
    server = serve_raw(slow)
    found = []
    with Client(server.url) as client:
        thread = threading.Thread(target=lambda: found.append(client.models()))
        thread.start()
        with pytest.raises(ServiceError, match="in time"):
            client.with_options(timeout_s=0.1).models()
        thread.join(20)
    assert found == [[]]
