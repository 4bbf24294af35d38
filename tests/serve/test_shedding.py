"""A route whose models are all busy says so before a request is read; others are not concerned."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from serve.args import ServiceArgs
from serve.full_routes import FULL_HEADER
from serve.ingress import create_app
from serve.keys import KeyRing
from serve.metrics import ServiceMetrics
from serve.models import Models
from tests.serve.conftest import client_with_key
from tests.serve.test_batcher import Held, ask, settle

pytestmark = pytest.mark.asyncio

NO_JSON = b"{"


def with_queues(models: Models, queues: Mapping[str, Held]) -> Models:
    """Classifiers of these names, each behind a queue of its own, beside the generator."""
    intents = models.bundles["intents"]
    encoder = intents.models["intents"]
    bundles = {
        name: replace(intents, name=name, models={name: replace(encoder, batcher=held.batcher)})
        for name, held in queues.items()
    }
    return Models(bundles | {"replies": models.bundles["replies"]})


@pytest.fixture
def client_of(service_args: ServiceArgs, models: Models, keys: KeyRing, metrics: ServiceMetrics):
    @asynccontextmanager
    async def open_client(queues: Mapping[str, Held]) -> AsyncIterator[httpx.AsyncClient]:
        changed = with_queues(models, queues)
        app = create_app(service_args, models=changed, keys=keys, metrics=metrics)
        async with client_with_key(app) as client:
            yield client

    return open_client


async def fill(held: Held) -> "asyncio.Task[object]":
    waiting = asyncio.create_task(ask(held.batcher, "waits"))
    await settle(held, 1)
    return waiting


async def status(client: httpx.AsyncClient, path: str = "/v1/classify") -> int:
    return (await client.post(path, content=NO_JSON)).status_code


async def test_a_full_queue_is_told_before_the_body_is_read(client_of) -> None:
    async with Held(max_queued=1) as held, client_of({"intents": held}) as client:
        assert await status(client) == 400
        waiting = await fill(held)
        refused = await client.post("/v1/classify", content=NO_JSON)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "queue_full"
        assert int(refused.headers["retry-after"]) >= 1
        assert 1 <= int(refused.headers[FULL_HEADER]) <= 250
        assert refused.headers["x-content-type-options"] == "nosniff"
        assert await status(client, "/v1/tokenize") == 400, "which asks no model"
        assert await status(client, "/v1/completions") == 400, "whose model has no such queue"
        assert (await client.get("/v1/models")).status_code == 200
        await held.release()
        await waiting
        assert await status(client) == 400


async def test_the_key_comes_first(client_of) -> None:
    async with Held(max_queued=1) as held, client_of({"intents": held}) as client:
        waiting = await fill(held)
        client.headers["authorization"] = "Bearer wrong"
        assert await status(client) == 401
        await held.release()
        await waiting


async def test_a_route_with_a_model_that_is_free_reads_on(client_of) -> None:
    async with (
        Held(max_queued=1) as one,
        Held(max_queued=1) as two,
        client_of({"one": one, "two": two}) as client,
    ):
        first = await fill(one)
        assert await status(client) == 400
        waits = await client.post("/v1/classify", json={"input": "text", "model": "one"})
        assert waits.status_code == 429
        assert FULL_HEADER not in waits.headers, "the route has another model"
        second = await fill(two)
        assert await status(client) == 429
        await one.release()
        await first
        assert await status(client) == 400
        await two.release()
        await second
