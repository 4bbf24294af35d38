"""Batches through the official client: what comes out, and what of it is the online routes'."""

from pathlib import Path

import httpx
import openai
import pytest

from serve.batches.schema import ENDPOINTS
from tests.serve.conftest import LABELS, TEXTS

from .conftest import Service, content_of, ended, lines_of, request_line, start, upload


@pytest.fixture(scope="module")
def client(service: Service) -> openai.OpenAI:
    return service.client("web")


def test_a_batch_answers_every_line_in_the_order_of_the_file(client: openai.OpenAI) -> None:
    lines = [
        request_line(f"line {number} é", {"model": "intents", "input": TEXTS[number % 5]})
        for number in range(10)
    ]
    file = client.files.create(file=("../../etc/in.jsonl", content_of(lines)), purpose="batch")
    assert (file.filename, file.purpose, file.bytes) == (
        "../../etc/in.jsonl",
        "batch",
        len(content_of(lines)),
    )
    made = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/classify",  # type: ignore[arg-type] # not one of OpenAI's
        completion_window="24h",
        metadata={"who": "test"},
    )
    assert (made.status, made.object, made.metadata) == ("validating", "batch", {"who": "test"})
    batch = ended(client, made.id)
    assert batch.status == "completed", batch
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 10, "completed": 10, "failed": 0}
    assert batch.error_file_id is None
    times = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert times == sorted(times)
    found = lines_of(client, batch.output_file_id)
    assert [one["custom_id"] for one in found] == [line["custom_id"] for line in lines]
    for one in found:
        assert list(one) == ["id", "custom_id", "response", "error"]
        assert one["error"] is None
        assert one["id"].startswith("batch_req_")
        assert one["response"]["status_code"] == 200
        assert len(one["response"]["request_id"]) == 32
        assert one["response"]["body"]["data"][0]["label"] in LABELS
    assert len({one["id"] for one in found}) == 10
    output = client.files.retrieve(batch.output_file_id or "")
    assert output.purpose == "batch_output"
    assert output.filename == f"{batch.id}_output.jsonl"
    client.files.delete(output.id)


def test_answers_and_errors_are_those_of_the_online_route(
    service: Service, client: openai.OpenAI
) -> None:
    bodies = [
        {"model": "intents", "input": [TEXTS[0], TEXTS[1]], "top_k": 2},
        {"model": "none", "input": TEXTS[0]},
        {"model": "replies", "input": TEXTS[0]},
        {"input": []},
        {"input": TEXTS[0], "unknown": 1},
        {"input": ["a"] * 5},
        {"input": "too long " * 60},
        {"input": "a" * 2100},
    ]
    batch = ended(client, start(client, [request_line(str(n), b) for n, b in enumerate(bodies)]))
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 7)
    found = {
        one["custom_id"]: one["response"]
        for file_id in (batch.output_file_id, batch.error_file_id)
        for one in lines_of(client, file_id)
    }
    raw = client.files.content(batch.error_file_id or "").content
    for number, body in enumerate(bodies):
        online = httpx.post(
            f"{service.url}/v1/classify", json=body, headers=service.head(client), timeout=30
        )
        response = found[str(number)]
        assert response["status_code"] == online.status_code
        assert response["body"] == online.json()
        if online.is_error:
            assert b'"body": ' + online.content + b"}" in raw
    for file_id in (batch.output_file_id, batch.error_file_id, batch.input_file_id):
        client.files.delete(file_id or "")


def test_a_conversation_goes_on_as_online_and_a_stream_is_refused(client: openai.OpenAI) -> None:
    url = "/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": TEXTS[0]}], "max_tokens": 4}
    lines = [
        request_line("plain", body, url),
        request_line("stream", {**body, "stream": True}, url),
        request_line("odd stream", {**body, "stream": "yes"}, url),
        request_line("no stream", {**body, "stream": False}, url),
    ]
    batch = ended(client, start(client, lines, url))
    online = client.chat.completions.create(
        model="replies", max_tokens=4, messages=body["messages"]
    )
    answered = lines_of(client, batch.output_file_id)
    assert [one["custom_id"] for one in answered] == ["plain", "no stream"]
    for one in answered:
        reply = openai.types.chat.ChatCompletion.model_validate(one["response"]["body"])
        assert reply.choices[0].message.content == online.choices[0].message.content
    refused = lines_of(client, batch.error_file_id)
    assert [one["custom_id"] for one in refused] == ["stream", "odd stream"]
    for one in refused:
        assert one["response"]["status_code"] == 400
        assert one["response"]["body"]["error"]["param"] == "stream"
    for file_id in (batch.output_file_id, batch.error_file_id, batch.input_file_id):
        client.files.delete(file_id or "")


def test_a_malformed_file_fails_with_the_numbers_of_its_lines(client: openai.OpenAI) -> None:
    good = request_line("a", {"input": TEXTS[0]})
    lines = [good, {**good, "custom_id": "b", "method": "GET"}, good, {"custom_id": "c"}]
    batch = ended(client, start(client, lines))
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.output_file_id is None
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert [(error.line, error.code) for error in batch.errors.data] == [
        (2, "invalid_value"),
        (3, "duplicate_custom_id"),
        (4, "invalid_value"),
    ]
    client.files.delete(batch.input_file_id)


def test_a_key_makes_batches_of_what_it_may_ask_online(service: Service) -> None:
    chat = service.client("chat", scopes=["chat"])
    url = "/v1/chat/completions"
    file_id = upload(chat, [request_line("a", {"messages": []}, url)])
    for endpoint in set(ENDPOINTS) - {"/v1/completions", url}:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            chat.batches.create(
                input_file_id=file_id,
                endpoint=endpoint,  # type: ignore[arg-type] # not all of OpenAI's
                completion_window="24h",
            )
        assert caught.value.code == "missing_scope"
        assert endpoint in caught.value.message
    made = chat.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert ended(chat, made.id).status == "completed"
    metrics = service.client("metrics", scopes=["metrics", "chat"])
    with pytest.raises(openai.NotFoundError):
        metrics.files.retrieve(file_id)
    monitor = service.client("monitor", scopes=["monitor"])
    with pytest.raises(openai.PermissionDeniedError):
        upload(monitor, [request_line("a", {})])


def test_a_line_asks_no_model_that_the_key_may_not(service: Service) -> None:
    narrow = service.client("narrow", scopes=["infer"], models=["replies"])
    batch = ended(narrow, start(narrow, [request_line("a", {"input": "hello"})]))
    (one,) = lines_of(narrow, batch.error_file_id)
    assert one["response"]["status_code"] == 403
    assert one["response"]["body"]["error"]["code"] == "model_not_permitted"
    assert "'narrow'" in one["response"]["body"]["error"]["message"]


def test_what_is_of_another_key_does_not_exist(service: Service, client: openai.OpenAI) -> None:
    batch = ended(client, start(client, [request_line("a", {"input": "hello"})]))
    stranger = service.client("stranger")
    for ask in (
        lambda: stranger.files.retrieve(batch.input_file_id),
        lambda: stranger.files.content(batch.input_file_id),
        lambda: stranger.files.content(batch.output_file_id or ""),
        lambda: stranger.files.delete(batch.input_file_id),
        lambda: stranger.batches.retrieve(batch.id),
        lambda: stranger.batches.cancel(batch.id),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    with pytest.raises(openai.BadRequestError, match="does not exist, or is not of this key"):
        stranger.batches.create(
            input_file_id=batch.input_file_id,
            endpoint="/v1/embeddings",
            completion_window="24h",
        )
    assert stranger.files.list().data == []
    assert stranger.batches.list().data == []
    assert batch.id in [one.id for one in client.batches.list().data]
    for file_id in (batch.input_file_id, batch.output_file_id):
        client.files.delete(file_id or "")


def test_figures_tell_of_batches_and_lines(service: Service, client: openai.OpenAI) -> None:
    figures = httpx.get(f"{service.url}/metrics", headers=service.head(client)).text
    found = dict(line.rsplit(" ", 1) for line in figures.splitlines() if "ray_sft_batch" in line)
    statuses = [one.status for one in client.batches.list().data]
    assert float(found['ray_sft_batches{status="completed"}']) >= statuses.count("completed") > 0
    assert float(found['ray_sft_batches{status="failed"}']) >= 1
    assert float(found['ray_sft_batch_lines_total{outcome="completed"}']) >= 10
    assert float(found['ray_sft_batch_lines_total{outcome="failed"}']) >= 7


def test_a_finished_batch_leaves_no_parts(service: Service, client: openai.OpenAI) -> None:
    batch = ended(client, start(client, [request_line("a", {"input": "hello"})]))
    assert service.args.batches is not None
    (folder,) = [
        path
        for path in Path(service.args.batches.folder).glob("*/batches/*")
        if path.name == batch.id
    ]
    assert [path.name for path in folder.iterdir()] == ["batch.json"]
    assert "sha256" not in (folder / "batch.json").read_text()
