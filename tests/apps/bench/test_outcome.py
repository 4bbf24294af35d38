"""What is read from a reply, part by part, with times that the test says."""

import json

import pytest

from apps.bench.outcome import ReplyReader

STREAM = {b"content-type": b"text/event-stream; charset=utf-8"}
JSON = {b"content-type": b"application/json"}


def event(tree):
    data = tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False)
    return f"data: {data}\n\n".encode()


def delta(text):
    return event({"choices": [{"index": 0, "delta": {"content": text}}]})


def read(body, headers=JSON, status=200):
    reader = ReplyReader(10.0)
    reader.take_head(status, headers)
    reader.take_body(body, 10.5)
    return reader.finish(11.0), reader


def test_a_whole_reply():
    headers = JSON | {
        b"x-queue-time": b"0.125",
        b"x-inference-time": b"2.5",
        b"x-batch-size": b"7",
    }
    body = b'{"data":[{"label":"a"}],"usage":{"prompt_tokens":4,"total_tokens":4}}'
    found, _ = read(body, headers)
    assert (found.status, found.code, found.num_tokens) == (200, None, 4)
    assert (found.queue_ms, found.inference_ms, found.batch_size) == (0.125, 2.5, 7)
    assert found.latency_s == 1.0
    assert found.first_token_s is None


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"error":{"message":"full.","code":"queue_full"}}', "queue_full", "full."),
        (b'{"error":{"message":"odd.","code":null}}', "http_429", "odd."),
        (b"<html>", "http_429", None),
        (b"[]", "http_429", None),
        (b'{"error":"text"}', "http_429", None),
    ],
)
def test_a_refusal_has_its_code_and_message(body, code, message):
    found, reader = read(body, status=429)
    assert (found.status, found.code) == (429, code)
    assert reader.message == message


def test_a_text_that_failed_in_a_reply_counts_as_a_failure():
    failed = b'{"data":[{"index":0,"error":{"message":"x","code":"item_failed"}}]}'
    assert read(failed)[0].code == "item_failed"
    quoted = json.dumps({"data": [{"text": '"error":{'}]}).encode()
    assert read(quoted)[0].code is None


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_stream_however_it_is_cut(newline, size):
    whole = (
        event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        + b": a comment\n\n"
        + delta("where\u2028is")
        + delta("包裹")
        + event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        + event({"choices": [], "usage": {"completion_tokens": 9, "total_tokens": 20}})
        + event("[DONE]")
    ).replace(b"\n", newline)
    reader = ReplyReader(0.0)
    reader.take_head(200, STREAM)
    for first in range(0, len(whole), size):
        reader.take_body(whole[first : first + size], 1.0)
    found = reader.finish(2.0)
    assert (found.code, found.num_tokens) == (None, 9)
    assert found.first_token_s == 1.0
    assert len(found.gaps_s) == 1


def test_times_between_texts():
    reader = ReplyReader(100.0)
    reader.take_head(200, STREAM)
    reader.take_body(event({"choices": [{"delta": {"content": ""}}]}), 100.1)
    for number, now in enumerate((100.5, 100.75, 101.75)):
        reader.take_body(event({"choices": [{"text": f"t{number}"}]}), now)
    reader.take_body(event("[DONE]"), 102.0)
    found = reader.finish(102.0)
    assert found.first_token_s == pytest.approx(0.5)
    assert found.gaps_s == pytest.approx([0.25, 1.0])
    assert found.latency_s == pytest.approx(2.0)


def test_a_stream_that_ends_without_saying_so_or_says_that_it_failed():
    assert read(delta("a"), STREAM)[0].code == "broken_off"
    failed = delta("a") + event({"error": {"message": "x", "code": "generation_failed"}})
    assert read(failed, STREAM)[0].code == "generation_failed"
    assert read(event({"error": {}}), STREAM)[0].code == "failed"
