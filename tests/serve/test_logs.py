import io
import json
import logging
from collections.abc import Iterator

import httpx
import pytest

from serve.border import Border
from serve.logs import log_as_json
from serve.metrics import ServiceMetrics

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
