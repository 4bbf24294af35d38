"""Loads on servers whose delays are known: what the figures say is what the server did."""

import asyncio
from time import perf_counter

import numpy as np
import pytest
import uvloop

from apps.bench import Plan
from apps.bench.connection import Connection
from apps.bench.load import Load
from apps.bench.summary import summarize
from apps.bench.wire import address_of, make_requests
from tests.apps.client.raw_server import (
    STREAM_HEAD,
    break_off,
    event,
    http,
    raw,
    refusal,
    silence,
)
from tests.apps.serving import free_port

BODY = {"data": [{"index": 0, "label": "a"}], "usage": {"prompt_tokens": 5, "total_tokens": 5}}
GOOD = http(200, BODY, x_queue_time="0.250", x_inference_time="1.500", x_batch_size="3")


def after(seconds, answer=GOOD):
    async def write(writer):
        await asyncio.sleep(seconds)
        await answer(writer)

    return write


def run(url, **parts):
    plan = Plan(**{"url": url, "texts": ("a", "b"), "duration_s": 1.0, "warmup_s": 0.2} | parts)
    load = Load(plan, make_requests(plan, key=""))
    uvloop.run(load.run())
    return load, summarize(load)


def ask(url, *, times=1, timeout_s=5.0):
    """The outcomes of requests that follow each other on one connection."""

    async def within():
        connection = Connection(address_of(url), timeout_s=timeout_s)
        request = make_requests(Plan(url=url, texts=("a",)), key="")[0]
        found = [await connection.ask(request, start=perf_counter()) for _ in range(times)]
        connection.close()
        return [reader.outcome for reader in found]

    return uvloop.run(within())


def test_a_connection_is_kept(serve_raw):
    server = serve_raw(GOOD)
    outcomes = ask(server.url, times=5)
    assert [(one.status, one.code, one.num_tokens) for one in outcomes] == [(200, None, 5)] * 5
    assert len({request.head for request in server.requests}) == 1
    assert server.num_connections == 1


CHUNKED = raw(
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"us\r\n',
    b'18\r\nage":{"total_tokens":8}}\r\n0\r\n\r\n',
)


@pytest.mark.parametrize(
    ("answer", "num_tokens"),
    [
        (CHUNKED, 8),
        (raw(b"HTTP/1.1 200 OK\r\n\r\n", b'{"total_tokens":6}', close=True), 6),
        (raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"), 0),
    ],
    ids=["chunked", "no length", "close"],
)
def test_every_way_to_end_a_reply(serve_raw, answer, num_tokens):
    outcomes = ask(serve_raw(answer).url, times=3)
    assert [(one.status, one.code) for one in outcomes] == [(200, None)] * 3
    assert [one.num_tokens for one in outcomes] == [num_tokens] * 3


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (break_off, "connection_broken"),
        (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", close=True), "connection_broken"),
        (raw(b"this is no HTTP\r\n\r\n"), "connection_broken"),
        (silence, "timeout"),
        (refusal(429, "queue_full"), "queue_full"),
        (http(502, "<html>"), "http_502"),
    ],
    ids=["broken", "half", "no http", "timeout", "refusal", "proxy"],
)
def test_every_failure_has_a_code_and_the_next_request_is_none_the_worse(serve_raw, answer, code):
    outcomes = ask(serve_raw(answer, GOOD).url, times=2, timeout_s=0.5)
    assert [one.code for one in outcomes] == [code, None]


def test_nobody_there():
    (outcome,) = ask(f"http://127.0.0.1:{free_port()}")
    assert (outcome.status, outcome.code) == (None, "connection_refused")


def test_a_closed_loop_measures_the_delay_of_the_server(serve_raw):
    load, found = run(serve_raw(after(0.1)).url, connections=4, duration_s=2.0)
    assert found.mode == "closed"
    assert 100 <= found.latency_ms.p50 < 150
    assert found.latency_ms.p50 <= found.latency_ms.p99 <= found.latency_ms.max
    # four connections, each busy all the time
    assert found.requests_per_s == pytest.approx(4e3 / found.latency_ms.mean, rel=0.15)
    assert found.texts_per_s == found.requests_per_s
    assert found.tokens_per_s == pytest.approx(5 * found.requests_per_s)
    assert (found.queue_ms.p50, found.inference_ms.p99, found.batch_size.max) == (0.25, 1.5, 3.0)
    assert found.statuses == {"200": found.requests}
    assert (found.failed, found.errors) == (0, {})
    assert len(load.records) > found.requests  # those of the warm-up are kept apart


def test_percentiles_are_those_of_the_delays(serve_raw):
    """Nine of ten requests take 20 ms, the tenth 200 ms."""
    delays = [0.02] * 9 + [0.2]
    server = serve_raw(*[after(delay) for _ in range(60) for delay in delays])
    _, found = run(server.url, connections=1, duration_s=4.0)
    assert 20 <= found.latency_ms.p50 < 60
    assert 200 <= found.latency_ms.p95 < 300
    assert found.latency_ms.mean == pytest.approx(1e3 / found.requests_per_s, rel=0.1)


def test_the_clock_shows_the_queue_that_a_closed_loop_hides(serve_raw):
    """A server that takes 50 ms a request can answer 20 a second on one connection."""
    _, closed = run(serve_raw(after(0.05)).url, connections=1, duration_s=2.0)
    assert closed.latency_ms.p99 < 150  # all looks well
    load, found = run(
        serve_raw(after(0.05)).url, connections=1, rate=40.0, arrivals="constant", duration_s=2.0
    )
    assert (found.mode, found.arrivals) == ("open", "constant")
    assert found.requests_per_s < 21
    # twice what it can do: who comes last waits for half the time that has passed
    assert 600 < found.latency_ms.max < 1600
    assert found.unsent > 20
    assert found.requests + found.unsent <= 80 + 1
    assert load.records.column("start").max() <= load.ends_at


def test_the_clock_keeps_its_rate_where_the_server_keeps_up(serve_raw):
    _, found = run(serve_raw(after(0.1)).url, connections=64, rate=100.0, duration_s=3.0)
    assert found.requests_per_s == pytest.approx(100, rel=0.25)
    assert found.unsent <= 12
    assert 100 <= found.latency_ms.p50 < 150


def test_failures_are_counted_by_code_and_left_out_of_the_latencies(serve_raw):
    answers = [after(0.05), refusal(429, "queue_full"), break_off] * 400
    _, found = run(serve_raw(*answers).url, connections=2, duration_s=2.0)
    assert set(found.errors) == {"queue_full", "connection_broken"}
    assert set(found.statuses) == {"200", "429", "none"}
    assert found.failed == sum(found.errors.values())
    assert found.statuses["429"] == found.errors["queue_full"]
    assert found.latency_ms.p50 >= 50  # a quick refusal is no quick answer


def test_a_service_that_is_gone_is_not_asked_in_a_busy_loop():
    load, found = run(f"http://127.0.0.1:{free_port()}", connections=2)
    assert found.requests == 0
    assert found.latency_ms is None
    assert set(found.errors) == {"connection_refused"}
    assert len(load.records) <= 2 * 14


def test_a_stream_is_measured_token_by_token(serve_raw):
    texts = [event({"choices": [{"delta": {"content": f"w{number}"}}]}) for number in range(4)]
    usage = event({"choices": [], "usage": {"completion_tokens": 4, "total_tokens": 9}})
    answer = after(0.1, raw(STREAM_HEAD, *texts, usage + event("[DONE]"), close=True, gap_s=0.05))
    _, found = run(serve_raw(answer).url, route="chat", connections=2, duration_s=2.0)
    assert 150 <= found.first_token_ms.p50 < 250  # the head is sent 50 ms before the first text
    assert 50 <= found.between_tokens_ms.p50 < 90
    assert found.latency_ms.p50 >= 350
    assert found.tokens_per_s == pytest.approx(4 * found.requests_per_s)
    assert found.texts_per_s is None
    assert found.errors == {}


def test_what_this_program_needs_is_told():
    load = Load(Plan(url="http://host", texts=("a",)), [b""])
    load.late_s = [0.001] * 98 + [0.04] * 2
    assert "40 ms late" in summarize(load).generator.warning
    load.core_share = 0.9
    assert "90% of a core" in summarize(load).generator.warning
    load.core_share, load.late_s = 0.2, [0.001] * 100
    assert summarize(load).generator.warning is None


def test_the_tree_has_plain_numbers():
    tree = summarize(Load(Plan(url="http://host", texts=("a",)), [b""])).tree()
    assert tree["latency_ms"] is None
    assert np.isfinite(tree["requests_per_s"])
    assert tree["generator"]["core_share"] == 0.0
