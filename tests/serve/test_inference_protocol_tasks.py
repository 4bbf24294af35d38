"""Every kind of task that can be served has tensors, and they say what its own route says."""

import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ray_sft.bundle import Bundle
from ray_sft.core import ServeError
from ray_sft.inference import Predictor
from ray_sft.tasks import (
    CausalLanguageModel,
    Embedding,
    MaskedLanguageModel,
    Ranking,
    Task,
)
from serve.args import ServiceArgs
from serve.endpoints.inference_protocol.adapters import adapter_of
from serve.ingress import create_app
from serve.keys import KeyRing
from serve.metrics import ServiceMetrics
from serve.models import Encoder, load_models
from tests.compression.conftest import write_bundle
from tests.factories import TASK_TYPES, TASKS, TEXTS

from .conftest import TOKEN
from .test_heads import market, market_app, market_args, market_bundle, market_models, predictors

__all__ = ["market", "market_app", "market_args", "market_bundle", "market_models", "predictors"]

pytestmark = pytest.mark.asyncio

ASKED = [TEXTS[0], f"{TEXTS[1]} {TEXTS[3]}"]
"""Of two sentences each, one with characters of three bytes."""
VALUES: dict[tuple[int, ...], list[str]] = {(-1,): ASKED, (-1, -1): [TEXTS[4], "", *ASKED]}
"""What is sent for an input of a shape, two rows."""
NUMPY = {"FP32": np.float32, "BYTES": np.object_}


@pytest.fixture(scope="module")
def bundle_of(
    tmp_path_factory: pytest.TempPathFactory, generator_bundle: Bundle, market_bundle: Bundle
) -> Callable[[type[Task]], tuple[str, Path]]:
    """The bundle of a kind of task, and the name of its model when it is served as 'm'."""
    heads = {Ranking: "m/click", Embedding: "m/vector"}

    def make(kind: type[Task]) -> tuple[str, Path]:
        if kind in heads:
            return heads[kind], market_bundle.path
        if kind is CausalLanguageModel:
            return "m", generator_bundle.path
        case = TASKS[kind]()
        path = tmp_path_factory.mktemp("bundles") / "kind"
        write_bundle(
            path,
            name="task",
            task=case.task,
            model=case.model,
            processor=case.processor,
            rows=[{"text": text} for text in ASKED],
        )
        return "m", path

    return make


@asynccontextmanager
async def serving(path: Path, keys: KeyRing) -> AsyncIterator[httpx.AsyncClient]:
    args = ServiceArgs(bundles={"m": str(path)}, num_cpus=1, max_tokens=8)
    metrics = ServiceMetrics()
    models = load_models(args, num_threads=1, metrics=metrics)
    try:
        app = create_app(args, models=models, keys=keys, metrics=metrics)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app),
            base_url="http://service",
            headers={"authorization": f"Bearer {TOKEN}"},
        ) as client:
            yield client
    finally:
        models.close()


def request(inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Two rows for each input that the metadata name."""
    return {
        "inputs": [
            {
                "name": one["name"],
                "datatype": one["datatype"],
                "shape": [2, *[2] * (len(one["shape"]) - 1)],
                "data": VALUES[tuple(one["shape"])],
            }
            for one in inputs
        ]
    }


@pytest.mark.parametrize(
    "kind",
    [kind for kind in TASK_TYPES if kind is not MaskedLanguageModel],
    ids=lambda k: k.__name__,
)
async def test_a_kind_answers_in_the_tensors_that_its_metadata_name(
    bundle_of: Callable[[type[Task]], tuple[str, Path]], keys: KeyRing, kind: type[Task]
) -> None:
    model, path = bundle_of(kind)
    async with serving(path, keys) as client:
        metadata = (await client.get(f"/v2/models/{model}")).json()
        assert metadata["parameters"]["task"] == kind.model_fields["kind"].default
        assert all(isinstance(v, str | int | float) for v in metadata["parameters"].values())
        reply = await client.post(f"/v2/models/{model}/infer", json=request(metadata["inputs"]))
        assert reply.status_code == 200, reply.text
        outputs = reply.json()["outputs"]
        assert [one["name"] for one in outputs] == [one["name"] for one in metadata["outputs"]]
        for found, described in zip(outputs, metadata["outputs"], strict=True):
            assert found["datatype"] == described["datatype"]
            assert found["shape"][0] == 2
            assert len(found["shape"]) == len(described["shape"])
            for size, stated in zip(found["shape"], described["shape"], strict=True):
                assert stated in (-1, size)
            assert len(found["data"]) == math.prod(found["shape"])
            array = np.asarray(found["data"], dtype=NUMPY[found["datatype"]])
            assert array.dtype == np.object_ or np.isfinite(array).all()


async def test_a_kind_that_has_no_tensors_cannot_be_served(
    bundle_of: Callable[[type[Task]], tuple[str, Path]], keys: KeyRing
) -> None:
    _, path = bundle_of(MaskedLanguageModel)
    with pytest.raises(ServeError, match="which no route asks for"):
        async with serving(path, keys):
            pass


async def test_a_kind_without_an_adapter_fails_by_its_name(market_models: Any) -> None:
    class Painting(Embedding):
        kind: str = "painting"

    _, vector = market_models.embedder(None)
    model = Encoder(vector.bundle, "vector", Painting(), vector.batcher, vector.processor)
    with pytest.raises(ServeError, match="tasks of the kind painting have no tensors"):
        adapter_of(model)


def column(tree: dict[str, Any], name: str) -> Any:
    (output,) = [one for one in tree["outputs"] if one["name"] == name]
    return np.asarray(output["data"]).reshape(output["shape"])


def text_input(texts: list[str]) -> dict[str, Any]:
    item = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    return {"inputs": [item]}


async def infer(client: httpx.AsyncClient, model: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = await client.post(f"/v2/models/{model}/infer", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["model_name"] == model
    return reply.json()


async def test_a_model_of_several_labels_gives_a_score_for_each_in_order(
    market: httpx.AsyncClient, predictors: dict[str, Predictor]
) -> None:
    tree = await infer(market, "market/moods", text_input(list(TEXTS)))
    expected = predictors["moods"].predict([{"text": text} for text in TEXTS])
    assert [json.loads(one) for one in column(tree, "labels")] == [one.labels for one in expected]
    metadata = (await market.get("/v2/models/market/moods")).json()
    labels = json.loads(metadata["parameters"]["labels"])
    assert metadata["parameters"]["threshold"] == 0.5
    by_label = [{one.label: one.score for one in answer.scores} for answer in expected]
    scores = [[row[label] for label in labels] for row in by_label]
    np.testing.assert_allclose(column(tree, "scores"), scores, atol=1e-5)


async def test_vectors_are_those_of_embeddings(market: httpx.AsyncClient) -> None:
    tree = await infer(market, "market/vector", text_input(ASKED))
    reply = await market.post("/v1/embeddings", json={"input": ASKED})
    expected = [one["embedding"] for one in reply.json()["data"]]
    np.testing.assert_allclose(column(tree, "embedding"), expected, atol=1e-5)
    metadata = (await market.get("/v2/models/market/vector")).json()
    assert metadata["outputs"][0]["shape"] == [-1, len(expected[0])]


HISTORIES = [[TEXTS[0]], [TEXTS[1], TEXTS[2]]]


@pytest.mark.parametrize(
    ("history", "meant"),
    [
        ([[TEXTS[0], ""], [TEXTS[1], TEXTS[2]]], HISTORIES),
        ([[TEXTS[1], TEXTS[2]]], [HISTORIES[1]] * 2),
        ([[], []], [[], []]),
        (None, [[], []]),
    ],
)
async def test_scores_are_those_of_each_candidates_history(
    market: httpx.AsyncClient, history: list[list[str]] | None, meant: list[list[str]]
) -> None:
    candidates = [TEXTS[3], TEXTS[4]]
    inputs = [{"name": "candidate", "shape": [2], "datatype": "BYTES", "data": candidates}]
    if history is not None:
        shape = [len(history), len(history[0])]
        inputs.append({"name": "history", "shape": shape, "datatype": "BYTES", "data": history})
    tree = await infer(market, "market/click", {"inputs": inputs})
    for found, candidate, texts in zip(column(tree, "score"), candidates, meant, strict=True):
        body = {"history": texts, "candidates": [candidate]}
        reply = await market.post("/v1/score", json=body)
        assert found == pytest.approx(reply.json()["data"][0]["score"], abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "data", "said"),
    [
        ([3, 1], ["a", "b", "c"], "there are 3 rows for 2 candidates"),
        ([10**9, 0], [], "there are 1000000000 rows for 2 candidates"),
        ([1, 513], ["a"] * 513, "a row has 513 texts; it may have 512"),
        ([2, 1], ["a", "x" * 5000], "inputs.history.1: the text has 5000 characters"),
    ],
)
async def test_a_wrong_history_is_explained(
    market: httpx.AsyncClient, shape: list[int], data: list[str], said: str
) -> None:
    inputs = [
        {"name": "candidate", "shape": [2], "datatype": "BYTES", "data": ["x", "y"]},
        {"name": "history", "shape": shape, "datatype": "BYTES", "data": data},
    ]
    reply = await market.post("/v2/models/market/click/infer", json={"inputs": inputs})
    assert reply.status_code == 400
    assert said in reply.json()["error"]


async def test_no_more_rows_are_taken_than_a_request_may_have(market: httpx.AsyncClient) -> None:
    for count in (9, 10_000):
        reply = await market.post("/v2/models/market/topic/infer", json=text_input(["x"] * count))
        assert reply.status_code == 400
        said = f"inputs.text has {count} texts; one request may have 8. Split it."
        assert reply.json()["error"] == said


async def test_a_slash_in_the_name_of_a_model_is_part_of_it(
    market: httpx.AsyncClient, market_bundle: Bundle
) -> None:
    for model in ("market/topic", "market%2Ftopic"):
        for path in ("", "/versions/1", f"/versions/{market_bundle.fingerprint}"):
            found = await market.get(f"/v2/models/{model}{path}")
            assert found.json()["name"] == "market/topic"
            ready = await market.get(f"/v2/models/{model}{path}/ready")
            assert ready.json() == {"name": "market/topic", "ready": True}
            reply = await market.post(f"/v2/models/{model}{path}/infer", json=text_input(ASKED))
            assert reply.json()["model_name"] == "market/topic"


@pytest.mark.parametrize(
    ("kind", "path", "field"),
    [("TokenClassification", "/v1/entities", "entities"), ("Translation", "/v1/translate", "text")],
)
async def test_what_is_found_or_written_is_that_of_the_tasks_own_route(
    bundle_of: Callable[[type[Task]], tuple[str, Path]],
    keys: KeyRing,
    kind: str,
    path: str,
    field: str,
) -> None:
    (task,) = [one for one in TASK_TYPES if one.__name__ == kind]
    _, bundle = bundle_of(task)
    async with serving(bundle, keys) as client:
        tree = await infer(client, "m", text_input(list(TEXTS)))
        data = (await client.post(path, json={"input": list(TEXTS)})).json()["data"]
    found = column(tree, field).tolist()
    assert [json.loads(one) if field == "entities" else one for one in found] == [
        item[field] for item in data
    ]
    if field == "text":
        assert column(tree, "finish_reason").tolist() == [one["finish_reason"] for one in data]
    else:
        assert any(item["entities"] for item in data)
