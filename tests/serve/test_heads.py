"""A bundle of several tasks: a model for each, classifiers in one pass, vectors and rankings."""

import base64

import numpy as np
import pytest
import pytest_asyncio
from starlette.types import ASGIApp

from ray_sft.bundle import Bundle, BundleWriter, Manifest
from ray_sft.core import ServeError
from ray_sft.inference import Predictor, record_samples
from ray_sft.tasks import Embedding, MultiLabelClassification, Ranking, SequenceClassification
from serve.args import ServiceArgs
from serve.ingress import create_app
from serve.keys import KeyRing
from serve.metrics import ServiceMetrics
from serve.models import Models, load_models
from tests.factories import TEXTS, tiny_headed, tiny_processor
from tests.serve.conftest import client_with_key

TASKS = {
    "topic": SequenceClassification(labels=("bank", "chips", "oil"), max_length=64),
    "sentiment": SequenceClassification(labels=("negative", "positive"), max_length=64),
    "moods": MultiLabelClassification(labels=("calm", "fear", "greed"), max_length=64),
    "click": Ranking(max_length=64),
    "vector": Embedding(max_length=64),
}


@pytest.fixture(scope="module")
def market_bundle(tmp_path_factory) -> Bundle:
    path = tmp_path_factory.mktemp("bundles") / "market"
    with BundleWriter(path) as out:
        tiny_headed(TASKS).save_pretrained(out.model_dir)
        tiny_processor().save_pretrained(out.processor_dir)
        manifest = Manifest(name="market", variant="trained", format="torch", tasks=TASKS)
        predictors = Predictor.each(out.draft(manifest))
        rows = [{"text": text, "candidate": text, "history": [TEXTS[0]]} for text in TEXTS]
        out.write_samples(
            sample for one in predictors.values() for sample in record_samples(one, rows)
        )
        return out.finish(manifest)


@pytest.fixture(scope="module")
def market_args(market_bundle: Bundle) -> ServiceArgs:
    return ServiceArgs(bundles={"market": str(market_bundle.path)}, num_cpus=1, max_inputs=8)


@pytest.fixture(scope="module")
def market_models(market_args: ServiceArgs):
    loaded = load_models(market_args, num_threads=1, metrics=ServiceMetrics())
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def market_app(market_args: ServiceArgs, market_models: Models, keys: KeyRing) -> ASGIApp:
    return create_app(market_args, models=market_models, keys=keys, metrics=ServiceMetrics())


@pytest_asyncio.fixture
async def market(market_app: ASGIApp):
    async with client_with_key(market_app) as client:
        yield client


@pytest.fixture(scope="module")
def predictors(market_bundle: Bundle) -> dict[str, Predictor]:
    return Predictor.each(market_bundle)


@pytest.mark.asyncio
async def test_every_task_is_a_model_of_its_own_name(market):
    listed = (await market.get("/v1/models")).json()["data"]
    assert {model["id"]: model["task"] for model in listed} == {
        f"market/{name}": task.kind for name, task in TASKS.items()
    }
    one = await market.get("/v1/models/market/topic")
    assert one.json()["task"] == "sequence_classification"


@pytest.mark.asyncio
@pytest.mark.parametrize("task", ["topic", "sentiment"])
async def test_a_head_answers_as_its_predictor(market, predictors, task):
    reply = await market.post(
        "/v1/classify", json={"input": list(TEXTS[:3]), "model": f"market/{task}"}
    )
    assert reply.status_code == 200, reply.text
    expected = predictors[task].predict([{"text": text} for text in TEXTS[:3]])
    for found, answer in zip(reply.json()["data"], expected, strict=True):
        assert found["label"] == answer.label
        assert found["score"] == pytest.approx(answer.score, abs=1e-5)


@pytest.mark.asyncio
async def test_a_request_that_names_no_task_is_asked_which(market):
    reply = await market.post("/v1/classify", json={"input": "x"})
    assert reply.status_code == 400
    assert "market/sentiment, market/topic" in reply.json()["error"]["message"]
    wrong = await market.post("/v1/classify", json={"input": "x", "model": "market/click"})
    assert wrong.status_code == 424


def test_classifiers_of_one_length_share_a_queue_and_a_pass(market_models):
    joint = market_models.joint("market", ("topic", "sentiment"))
    assert joint.batcher is market_models.classifier("market/sentiment")[1].batcher
    assert joint.batcher is not market_models.embedder(None)[1].batcher
    with pytest.raises(ServeError, match="no tasks topic, vector that run together"):
        market_models.joint("market", ("topic", "vector"))


@pytest.mark.asyncio
async def test_embeddings_have_length_one_in_both_encodings(market, predictors):
    texts = list(TEXTS[:2])
    plain = (await market.post("/v1/embeddings", json={"input": texts})).json()
    packed = (
        await market.post("/v1/embeddings", json={"input": texts, "encoding_format": "base64"})
    ).json()
    vectors = np.asarray([item["embedding"] for item in plain["data"]])
    decoded = [np.frombuffer(base64.b64decode(i["embedding"]), "<f4") for i in packed["data"]]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.stack(decoded), vectors, atol=1e-6)
    expected = predictors["vector"].predict([{"text": text} for text in texts])
    np.testing.assert_allclose(vectors, [answer.embedding for answer in expected], atol=1e-5)
    assert plain["model"] == "market/vector"
    assert plain["usage"]["prompt_tokens"] > 0


@pytest.mark.asyncio
async def test_scores_are_those_of_the_model_and_rerank_orders_by_them(market, predictors):
    history, candidates = [TEXTS[0]], list(TEXTS[1:5])
    body = {"history": history, "candidates": candidates}
    scores = [item["score"] for item in (await market.post("/v1/score", json=body)).json()["data"]]
    rows = [{"history": history, "candidate": text} for text in candidates]
    expected = [answer.score for answer in predictors["click"].predict(rows)]
    assert scores == pytest.approx(expected, abs=1e-5)
    body = {"query": TEXTS[0], "documents": candidates, "top_n": 3, "return_documents": True}
    results = (await market.post("/v1/rerank", json=body)).json()["results"]
    order = sorted(range(4), key=lambda index: -scores[index])[:3]
    assert [item["index"] for item in results] == order
    assert [item["document"] for item in results] == [candidates[index] for index in order]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/score", {"candidates": ["x"] * 9}, "candidates"),
        ("/v1/score", {"candidates": []}, "candidates"),
        ("/v1/score", {"candidates": ["x"], "history": ["y" * 5000]}, "history.0"),
        ("/v1/rerank", {"query": "", "documents": ["x"]}, "query"),
        ("/v1/rerank", {"query": "x", "documents": ["x", "y" * 5000]}, "documents.1"),
        ("/v1/embeddings", {"input": ["x"] * 9}, "input"),
        ("/v1/embeddings", {"input": "x", "dimensions": 3}, "dimensions"),
    ],
)
async def test_a_request_beyond_the_limits_names_the_part(market, path, body, param):
    reply = await market.post(path, json=body)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param


@pytest.mark.asyncio
async def test_a_model_of_several_labels_names_all_that_apply(market, predictors):
    reply = await market.post("/v1/classify", json={"model": "market/moods", "input": list(TEXTS)})
    assert reply.status_code == 200, reply.text
    expected = predictors["moods"].predict([{"text": text} for text in TEXTS])
    for item, answer in zip(reply.json()["data"], expected, strict=True):
        assert item["labels"] == answer.labels
        assert "label" not in item
        assert [entry["label"] for entry in item["scores"]] == [s.label for s in answer.scores]
        assert {entry["label"] for entry in item["scores"] if entry["score"] >= 0.5} == set(
            item["labels"]
        )
