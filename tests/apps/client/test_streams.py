"""Streams of events: how they are cut, how they end, and what leaving them does."""

import asyncio
import time

import pytest

from apps.client import AsyncClient, Client, Message, RetryPolicy, ServiceError
from tests.apps.client.raw_server import STREAM_HEAD, break_off, event, http, raw, refusal, stream
from tests.waiting import wait_until

HELLO = [Message("user", "hello")]
DONE = event("[DONE]")
QUICK = RetryPolicy(first_wait_s=0.01)


def chat(client):
    return client.stream_chat(HELLO)


def delta(text):
    return event({"choices": [{"index": 0, "delta": {"content": text}}]})


ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
STOP = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
USAGE = event(
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
)
WHOLE = (ROLE, delta("free "), delta("from 30"), STOP, USAGE, DONE)


def test_pieces_the_reason_to_end_and_the_usage(flavour, serve_raw):
    pieces = []
    server = serve_raw(stream(*WHOLE))
    flavour.collect(server.url, chat, pieces)
    assert [piece.text for piece in pieces] == ["free ", "from 30", "", ""]
    assert [piece.finish_reason for piece in pieces] == [None, None, "stop", None]
    assert [piece.usage and piece.usage.completion_tokens for piece in pieces] == [None] * 3 + [2]
    assert b'"include_usage":true' in server.requests[0].body


def test_a_completion_streams_too(flavour, serve_raw):
    def tree(text, reason=None):
        return event({"choices": [{"index": 0, "text": text, "finish_reason": reason}]})

    pieces = []
    server = serve_raw(stream(tree("once "), tree("upon"), tree("", "length"), DONE))
    flavour.collect(
        server.url, lambda client: client.stream_completions("tell", max_tokens=2), pieces
    )
    assert [(piece.text, piece.finish_reason) for piece in pieces] == [
        ("once ", None),
        ("upon", None),
        ("", "length"),
    ]


ODD = "a\u2028b\u2029c\x85d\x0be\x1cf 包邮 \U0001f600 \\n"
SPELLED = (
    b": a comment\n\n"
    + b"event: message\nid: 7\nretry: 10\n"
    + delta(ODD)
    + b":\n"
    + b'data: {"choices": [{"index": 0,\ndata:  "delta": {"content": "two lines"}}]}\n\n'
    + b"event: ping\n\n"
    + b'data:{"choices":[{"delta":{"content":"no space"}}]}\n\n'
    + DONE
)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_every_spelling_of_events_and_every_cut_is_read(flavour, serve_raw, newline, size):
    """Lines of a stream end in three ways only; Python and httpx know more of them."""
    content = SPELLED.replace(b"\n", newline)
    chunks = [content[first : first + size] for first in range(0, len(content), size)]
    pieces = []
    flavour.collect(serve_raw(stream(*chunks)).url, chat, pieces)
    assert [piece.text for piece in pieces] == [ODD, "two lines", "no space"]


@pytest.mark.parametrize("ending", [b"", b"data: [DO", b"data: [DONE]\n"])
def test_a_stream_without_its_end_is_broken_off(flavour, serve_raw, ending):
    pieces = []
    server = serve_raw(stream(delta("half"), ending))
    with pytest.raises(ServiceError, match="broke off") as caught:
        flavour.collect(server.url, chat, pieces, retry=QUICK)
    assert [piece.text for piece in pieces] == ["half"]
    assert caught.value.code == "broken_off"
    assert len(server.requests) == 1  # a piece was given away, so it is not asked again


def test_a_stream_cut_within_a_chunk_is_broken_off(flavour, serve_raw):
    head = STREAM_HEAD.replace(b"connection: close", b"transfer-encoding: chunked")
    text = delta("half")
    server = serve_raw(raw(head, b"%x\r\n%b\r\n" % (len(text), text), b"ff\r\ndata", close=True))
    pieces = []
    with pytest.raises(ServiceError, match="broke off"):
        flavour.collect(server.url, chat, pieces)
    assert len(pieces) == 1


@pytest.mark.parametrize("after", [(), (ROLE, delta("a"))])
def test_a_failure_that_the_service_tells_in_the_stream(flavour, serve_raw, after):
    failed = event({"error": {"message": "the model failed.", "code": "generation_failed"}})
    server = serve_raw(stream(*after, failed))
    pieces = []
    with pytest.raises(ServiceError, match=r"the model failed\.") as caught:
        flavour.collect(server.url, chat, pieces, retry=QUICK)
    assert (caught.value.status, caught.value.code) == (200, "generation_failed")
    assert caught.value.request_id == server.requests[0].header("x-request-id")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "failure",
    [break_off, refusal(503), refusal(429), stream(), stream(b": wait\n\n")],
    ids=["break_off", "503", "429", "empty", "comment"],
)
def test_before_its_first_event_a_stream_is_asked_again(flavour, serve_raw, failure):
    server = serve_raw(failure, failure, stream(*WHOLE))
    pieces = []
    flavour.collect(server.url, chat, pieces, retry=QUICK)
    assert "".join(piece.text for piece in pieces) == "free from 30"
    assert len({request.header("x-request-id") for request in server.requests}) == 1
    assert len(server.requests) == 3


def test_a_refusal_is_told_with_its_message(flavour, serve_raw):
    server = serve_raw(refusal(400, "context_length_exceeded"))
    with pytest.raises(ServiceError, match=r"not now \(400\)") as caught:
        flavour.collect(server.url, chat, [])
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    "answer",
    [http(200, {"choices": []}, content_type="application/json"), stream(event({"what": 1}), DONE)],
    ids=["no stream", "other events"],
)
def test_something_else_that_answers(flavour, serve_raw, answer):
    server = serve_raw(answer)
    with pytest.raises(ServiceError, match="does not speak like the service"):
        flavour.collect(server.url, chat, [])
    assert len(server.requests) == 1


ENDLESS = stream(*[delta("word ")] * 10_000, gap_s=0.02)


def test_leaving_the_loop_closes_the_connection_at_once(flavour, serve_raw):
    server = serve_raw(ENDLESS)

    def see():  # while the client is still open
        wait_until(lambda: server.num_left == 1, timeout_s=10)

    flavour.leave(server.url, chat, then=see)
    assert server.num_left == 1


def test_with_closes_a_stream_that_is_still_held(serve_raw):
    server = serve_raw(ENDLESS)
    with Client(server.url) as client:
        with client.stream_chat(HELLO) as pieces:
            assert next(pieces).text == "word "
        wait_until(lambda: server.num_left == 1, timeout_s=10)
        with pytest.raises(StopIteration):
            next(pieces)


def test_async_with_closes_a_stream_that_is_still_held(serve_raw):
    server = serve_raw(ENDLESS)

    async def run():
        async with AsyncClient(server.url) as client:
            async with client.stream_chat(HELLO) as pieces:
                assert (await anext(pieces)).text == "word "
            await asyncio.to_thread(wait_until, lambda: server.num_left == 1, timeout_s=10)
            with pytest.raises(StopAsyncIteration):
                await anext(pieces)

    asyncio.run(run())


def test_a_cancelled_task_closes_its_stream(serve_raw):
    server = serve_raw(ENDLESS)

    async def listen(client, begun):
        async for _ in client.stream_chat(HELLO):
            begun.set()

    async def run():
        async with AsyncClient(server.url) as client:
            begun = asyncio.Event()
            task = asyncio.create_task(listen(client, begun))
            await asyncio.wait_for(begun.wait(), 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(wait_until, lambda: server.num_left == 1, timeout_s=10)

    asyncio.run(run())


def test_a_long_stream_may_take_longer_than_the_deadline(flavour, serve_raw):
    server = serve_raw(stream(*[delta("w")] * 5, DONE, gap_s=0.5))
    pieces = []
    flavour.collect(server.url, chat, pieces, timeout_s=2.0)
    assert len(pieces) == 5


@pytest.mark.parametrize("chunks", [(), (delta("a"),)], ids=["first", "next"])
def test_a_piece_that_does_not_come_is_late(flavour, serve_raw, chunks):
    """Comments that keep the connection open are no pieces."""
    server = serve_raw(stream(*chunks, *[b": wait\n\n"] * 1000, gap_s=0.05))
    start = time.monotonic()
    with pytest.raises(ServiceError, match="in time") as caught:
        flavour.collect(server.url, chat, [], timeout_s=0.4)
    assert 0.3 < time.monotonic() - start < 10.0
    assert caught.value.code == "timeout"
    assert len(server.requests) == 1


def test_a_full_pool_is_told_as_such(flavour, serve_raw):
    server = serve_raw(ENDLESS)

    def other(client):
        return client.with_options(timeout_s=0.3).models()

    with pytest.raises(ServiceError, match="max_connections") as caught:
        flavour.hold(server.url, chat, other, max_connections=1)
    assert caught.value.code == "no_free_connection"
    assert len(server.requests) == 1


def test_other_calls_between_two_pieces_leave_the_stream_alone(serve_raw):
    """Both set a deadline for the thread; each holds for its own call."""
    models = http(200, {"data": []})
    server = serve_raw(stream(delta("a"), delta("b"), DONE, gap_s=1.2), models)
    texts = []
    with Client(server.url) as client:
        for piece in client.stream_chat(HELLO):
            texts.append(piece.text)
            client.with_options(timeout_s=1.0).models()
    assert texts == ["a", "b"]
