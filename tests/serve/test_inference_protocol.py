"""`/v2/...` asked by hand: what is refused, and what holds for every route of the service."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from ray_sft.inference import GenerationEngine
from serve.args import ServiceArgs
from serve.ingress import create_app
from serve.keys import KeyRing
from serve.keys.api_key import ApiKey, digest_of
from serve.metrics import ServiceMetrics
from serve.models import Models, load_models
from tests.waiting import async_wait_until

from .conftest import TEXTS, TOKEN

pytestmark = pytest.mark.asyncio

KEY = {"authorization": f"Bearer {TOKEN}"}


def body(texts: Any = TEXTS, **more: Any) -> dict[str, Any]:
    shape = [len(texts)]
    return {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": shape, "data": list(texts)}],
        **more,
    }


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"max_tokens": 49}, "parameters.max_tokens is 49; after a prompt"),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
        ({"temperature": 9}, "temperature: Input should be less than or equal to 2"),
        ({"top_p": {"a": 1}}, "top_p: Input should be a valid number"),
        ({"n": 2}, "'parameters.n' is not supported"),
        ({"stream": True}, "'parameters.stream' is not supported"),
        ({"model": "x"}, "'parameters.model' is not supported"),
        ({"messages": "x"}, "'messages' is not supported"),
        ({"binary_data_output": 1}, "parameters.binary_data_output is neither true nor false"),
    ],
)
async def test_a_wrong_parameter_of_generation_is_explained(
    client: httpx.AsyncClient, parameters: dict[str, Any], said: str
) -> None:
    reply = await client.post("/v2/models/replies/infer", json=body(parameters=parameters))
    assert reply.status_code == 400, reply.text
    assert said in reply.json()["error"]


async def test_a_prompt_without_room_for_a_reply_is_refused(client: httpx.AsyncClient) -> None:
    for text, said in (("0" * 200, "tokens"), ("x" * 5000, "5000 characters"), ("", "is empty")):
        reply = await client.post("/v2/models/replies/infer", json=body(["fine", text]))
        assert reply.status_code == 400
        assert reply.json()["error"].startswith("inputs.text")
        assert said in reply.json()["error"]


JSON_LENGTH = "Inference-Header-Content-Length"
HEAD = b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "parameters": '
BINARY = HEAD + b'{"binary_data_size": 5}}]}'
ELEMENT = b"\x01\x00\x00\x00x"


@pytest.mark.parametrize(
    ("content", "length", "status"),
    [
        (BINARY + ELEMENT, len(BINARY), 200),
        (BINARY + ELEMENT, None, 400),
        (BINARY + ELEMENT, "x", 400),
        (BINARY + ELEMENT, -1, 400),
        (BINARY + ELEMENT, 1 << 40, 400),
        (BINARY + ELEMENT, len(BINARY) - 1, 400),
        (BINARY + ELEMENT[:-1], len(BINARY), 400),
        (BINARY + ELEMENT + b"x", len(BINARY), 400),
        (BINARY + b"\xff" * 5, len(BINARY), 400),
        (BINARY + b"\x01\x00\x00\x00\xff", len(BINARY), 400),
        (b"", None, 400),
        (b"\xff\xfe", None, 400),
        (b"[" * 8000, None, 400),
        (b'{"inputs": [{}]}', None, 400),
    ],
)
async def test_a_malformed_request_is_refused(
    client: httpx.AsyncClient, content: bytes, length: int | str | None, status: int
) -> None:
    headers = {} if length is None else {JSON_LENGTH: str(length)}
    reply = await client.post("/v2/models/intents/infer", content=content, headers=headers)
    assert reply.status_code == status, reply.text
    if status == 400:
        assert reply.json()["error"].endswith((".", ")"))
    else:
        assert reply.json()["outputs"][0]["shape"] == [1]


async def test_the_model_of_the_body_is_that_of_the_path(client: httpx.AsyncClient) -> None:
    same = await client.post("/v2/models/intents/infer", json=body(model_name="intents"))
    assert same.status_code == 200
    other = await client.post("/v2/models/intents/infer", json=body(model_name="replies"))
    assert other.status_code == 400
    assert "the path says 'intents'" in other.json()["error"]


async def test_timing_and_tokens_are_told(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v2/models/intents/infer", json=body())
    for name in ("x-queue-time", "x-tokenize-time", "x-inference-time"):
        assert 0 <= float(reply.headers[name]) < 10_000
    assert int(reply.headers["x-batch-size"]) == len(TEXTS)
    classified = await client.post("/v1/classify", json={"input": list(TEXTS)})
    assert (
        reply.json()["parameters"]["prompt_tokens"] == classified.json()["usage"]["prompt_tokens"]
    )
    assert "id" not in reply.json()


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models/", 404),
        ("GET", "/v2/models/intents/config", 404),
        ("POST", "/v2/models/intents", 405),
        ("POST", "/v2", 405),
        ("POST", "/v2/models//infer", 404),
    ],
)
async def test_every_error_has_the_shape_of_the_protocol(
    client: httpx.AsyncClient, verb: str, path: str, status: int
) -> None:
    reply = await client.request(verb, path, json={})
    assert reply.status_code == status
    assert list(reply.json()) == ["error"]
    assert isinstance(reply.json()["error"], str)


async def test_an_error_outside_of_the_protocol_keeps_openais_shape(
    client: httpx.AsyncClient,
) -> None:
    reply = await client.get("/v2x")
    assert reply.json()["error"]["code"] == "route_not_found"


@asynccontextmanager
async def serving(
    args: ServiceArgs, keys: KeyRing
) -> AsyncIterator[tuple[httpx.AsyncClient, GenerationEngine, ServiceMetrics]]:
    """A service of its own: a client, the engine of its model 'replies', and its figures."""
    metrics = ServiceMetrics()
    models = load_models(args, num_threads=1, metrics=metrics)
    app = create_app(args, models=models, keys=keys, metrics=metrics)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://service", headers=KEY
    ) as client:
        yield client, models.generator("replies", "a test")[1].engine, metrics
    models.close()


async def test_a_key_for_one_model_asks_no_other(
    service_args: ServiceArgs, models: Models, metrics: ServiceMetrics
) -> None:
    key = ApiKey(
        name="narrow", sha256=digest_of(TOKEN), scopes=("infer", "read"), models=("intents",)
    )
    app = create_app(service_args, models=models, keys=KeyRing((key,)), metrics=metrics)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://service", headers=KEY
    ) as client:
        for model, status in (("intents", 200), ("replies", 403)):
            for path in ("", "/ready", "/versions/1"):
                reply = await client.get(f"/v2/models/{model}{path}")
                assert reply.status_code == status
            reply = await client.post(f"/v2/models/{model}/infer", json=body(TEXTS[:1]))
            assert reply.status_code == status
        assert reply.json()["error"].startswith("key 'narrow' may not use model 'replies'")


async def test_a_full_queue_says_when_to_come_again(
    service_args: ServiceArgs, keys: KeyRing
) -> None:
    args = service_args.model_copy(update={"max_queued": 1, "num_slots": 1})
    async with serving(args, keys) as (http, engine, _):
        reply = await http.post("/v2/models/intents/infer", json=body())
        assert reply.status_code == 429
        assert int(reply.headers["retry-after"]) >= 1
        assert "texts wait for the model" in reply.json()["error"]
        reply = await http.post("/v2/models/replies/infer", json=body())
        assert reply.status_code == 429
        assert reply.headers["retry-after"] == "1"
        assert "requests wait already" in reply.json()["error"]
        await async_wait_until(lambda: not engine.num_active and not engine.num_queued)
        one = await http.post("/v2/models/intents/infer", json=body(TEXTS[:1]))
        assert one.status_code == 200


async def test_a_client_that_leaves_frees_its_slots_and_its_tokens_are_counted(
    service_args: ServiceArgs, keys: KeyRing
) -> None:
    args = service_args.model_copy(update={"max_tokens": 100, "num_slots": 1})
    sent = body(TEXTS, parameters={"temperature": 2.0})
    async with serving(args, keys) as (http, engine, metrics):
        begun = time.monotonic()
        reply = await http.post("/v2/models/replies/infer", json=sent)
        whole_s = time.monotonic() - begun
        figures = reply.json()["parameters"]
        assert float(reply.headers["x-queue-time"]) > 0, "one slot for all texts"
        assert float(reply.headers["x-inference-time"]) < 1e3 * whole_s
        await async_wait_until(lambda: not engine.num_active)
        asked = asyncio.create_task(http.post("/v2/models/replies/infer", json=sent))
        await async_wait_until(lambda: engine.num_active)
        begun = time.monotonic()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await async_wait_until(lambda: not engine.num_active and not engine.num_queued)
        assert time.monotonic() - begun < 0.5 * whole_s
        read, written = (
            metrics.registry.get_sample_value(
                "ray_sft_tokens_total", {"model": "replies", "kind": kind}
            )
            for kind in ("prompt", "completion")
        )
        assert read == 2 * figures["prompt_tokens"]
        assert figures["completion_tokens"] <= written < 2 * figures["completion_tokens"]
