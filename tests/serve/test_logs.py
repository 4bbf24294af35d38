import io
import json
import logging
from collections.abc import Iterator

import httpx
import pytest

from serve.border import Border
from serve.ingress import create_app
from serve.logs import log_as_json
from serve.metrics import ServiceMetrics
from serve.prompt_log import show_prompts

from .conftest import TOKEN


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is logged as JSON; afterwards logging is as it was."""
    loggers = [logging.getLogger(name) for name in ("serve", "ray_sft")]
    former = [(logger.handlers, logger.propagate) for logger in loggers]
    stream = io.StringIO()
    log_as_json(stream)
    yield stream
    for logger, (handlers, propagate) in zip(loggers, former, strict=True):
        logger.handlers, logger.propagate = handlers, propagate


def test_a_line_is_an_object_with_time_and_place(written):
    logging.getLogger("serve.somewhere").warning("model '%s' is slow", "intents")
    logging.getLogger("ray_sft.bundle").warning("two\nlines")
    logging.getLogger("elsewhere").warning("not ours")
    first, second = [json.loads(line) for line in written.getvalue().splitlines()]
    assert first["level"] == "WARNING"
    assert first["logger"] == "serve.somewhere"
    assert first["message"] == "model 'intents' is slow"
    assert first["time"].startswith("20")
    assert "request_id" not in first
    assert second["message"] == "two\nlines"


@pytest.mark.asyncio
async def test_a_failure_names_the_request_and_its_key_but_not_the_text(written, keys):
    async def fail(scope, receive, send):
        del scope, send
        await receive()
        raise RuntimeError("the model is gone")

    border = Border(
        fail,
        keys=keys,
        metrics=ServiceMetrics(),
        public_paths=(),
        known_paths=(),
        request_timeout_s=10,
        adds_request_id=True,
    )
    transport = httpx.ASGITransport(app=border)
    headers = {"authorization": f"Bearer {TOKEN}", "x-request-id": "abc-123"}
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        reply = await client.post("/v1/classify", json={"input": "a secret"}, headers=headers)
    assert reply.status_code == 500
    (line,) = written.getvalue().splitlines()
    tree = json.loads(line)
    assert tree["request_id"] == "abc-123"
    assert tree["key"] == "environment-1"
    assert "the model is gone" in tree["exc_info"]
    assert "secret" not in line
    assert TOKEN not in line


ASKED = "my card ends in 4711"


async def ask_twice(app, path: str) -> None:
    transport = httpx.ASGITransport(app=app)
    headers = {"authorization": f"Bearer {TOKEN}", "x-request-id": "abc-123"}
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        reply = await client.post(path, json={"input": ASKED}, headers=headers)
        assert reply.status_code == 200, reply.text
        broken = await client.post(path, content=f"{{{ASKED}", headers=headers)
        assert broken.status_code == 400


@pytest.mark.asyncio
@pytest.mark.parametrize("log_prompts", [False, True])
async def test_what_is_asked_is_logged_only_where_that_is_wanted(
    written, log_prompts, service_args, models, keys, metrics
):
    args = service_args.model_copy(update={"log_prompts": log_prompts})
    if log_prompts:
        show_prompts()
    await ask_twice(create_app(args, models=models, keys=keys, metrics=metrics), "/v1/classify")
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    if not log_prompts:
        assert ASKED not in written.getvalue()
        return
    assert [line["message"] for line in lines] == [
        f'/v1/classify was asked: {{"input":"{ASKED}"}}',
        f"/v1/classify was asked: {{{ASKED}",
    ]
    assert {(line["request_id"], line["key"]) for line in lines} == {("abc-123", "environment-1")}
    assert TOKEN not in written.getvalue()


@pytest.mark.asyncio
async def test_prompts_are_lines_of_text_where_the_log_is_text(
    service_args, models, keys, metrics, monkeypatch
):
    monkeypatch.setattr(logging.getLogger("serve.prompt_log"), "handlers", [])
    stream = io.StringIO()
    show_prompts(stream)
    args = service_args.model_copy(update={"log_prompts": True, "max_body_bytes": 65536})
    app = create_app(args, models=models, keys=keys, metrics=metrics)
    await ask_twice(app, "/v1/classify")
    assert f'abc-123 environment-1 /v1/classify was asked: {{"input":"{ASKED}"}}\n' in (
        stream.getvalue()
    )
    stream.truncate(0)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        headers = {"authorization": f"Bearer {TOKEN}"}
        await client.post("/v1/classify", content=b"x" * 30_000, headers=headers)
    assert stream.getvalue().endswith("x (10000 bytes more)\n")
