"""`/v1/classify` on a tiny real bundle."""

import asyncio

import httpx
import pytest

from ray_sft.bundle import Bundle
from ray_sft.inference import Predictor

from .conftest import LABELS, TEXTS

pytestmark = pytest.mark.asyncio


async def test_answers_are_those_of_the_bundle(
    client: httpx.AsyncClient, classifier_bundle: Bundle
) -> None:
    reply = await client.post("/v1/classify", json={"input": list(TEXTS), "top_k": 3})
    assert reply.status_code == 200, reply.text
    tree = reply.json()
    assert tree["object"] == "list"
    assert tree["model"] == "intents"
    predictor = Predictor(classifier_bundle)
    expected = predictor.predict([{"text": text} for text in TEXTS])
    for index, (item, answer) in enumerate(zip(tree["data"], expected, strict=True)):
        assert item["index"] == index
        assert item["label"] == answer.label
        assert item["score"] == pytest.approx(answer.score, abs=1e-5)
        assert {entry["label"] for entry in item["scores"]} == set(LABELS)
    num_tokens = sum(example.length for example in predictor.encode([{"text": t} for t in TEXTS]))
    assert tree["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}


async def test_one_text_and_a_list_of_one_are_answered_alike(client: httpx.AsyncClient) -> None:
    one = await client.post("/v1/classify", json={"model": "intents", "input": TEXTS[0]})
    many = await client.post("/v1/classify", json={"input": [TEXTS[0]]})
    assert one.json() == many.json()


@pytest.mark.parametrize("top_k", [1, 2, 99])
async def test_top_k_labels_come_most_probable_first(client: httpx.AsyncClient, top_k: int) -> None:
    reply = await client.post("/v1/classify", json={"input": TEXTS[0], "top_k": top_k})
    (item,) = reply.json()["data"]
    scores = [entry["score"] for entry in item["scores"]]
    assert len(scores) == min(top_k, len(LABELS))
    assert scores == sorted(scores, reverse=True)
    assert item["scores"][0]["label"] == item["label"]


async def test_timing_is_told(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/classify", json={"input": list(TEXTS)})
    for name in ("x-queue-time", "x-tokenize-time", "x-inference-time"):
        assert 0 <= float(reply.headers[name]) < 10_000
    assert int(reply.headers["x-batch-size"]) == len(TEXTS)


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ("{", None, "not JSON"),
        ("[]", None, "should be an object"),
        ("{}", "input", "Field required"),
        ('{"input": ""}', "input", "at least 1 character"),
        ('{"input": []}', "input", "at least 1"),
        ('{"input": ["a", ""]}', "input.1", "at least 1 character"),
        ('{"input": [1]}', "input.0", "valid string"),
        ('{"input": "a", "top_k": 0}', "top_k", "greater than or equal to 1"),
        ('{"input": "a", "top_k": "2"}', "top_k", "valid integer"),
        ('{"input": "a", "topk": 2}', "topk", "'topk' is not supported"),
        ('{"input": "   "}', "input", "missing or empty"),
        ('{"input": ["fine", "  "]}', "input.1", "missing or empty"),
        ('{"input": ["a","a","a","a","a","a","a","a","a"]}', "input", "9 texts; one request may"),
    ],
)
async def test_a_bad_request_is_explained(
    client: httpx.AsyncClient, body: str, param: str | None, said: str
) -> None:
    reply = await client.post("/v1/classify", content=body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert said in error["message"]


async def test_a_text_that_is_too_long_is_refused_with_the_numbers(
    client: httpx.AsyncClient,
) -> None:
    reply = await client.post("/v1/classify", json={"input": ["fine", "0" * 70]})
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert error["param"] == "input.1"
    assert "has 70 tokens; the model takes 64" in error["message"]
    reply = await client.post("/v1/classify", json={"input": "x" * 5000})
    assert reply.status_code == 400
    assert "5000 characters" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("model", "status", "code"), [("none", 404, "model_not_found"), ("replies", 424, "wrong_task")]
)
async def test_a_model_that_cannot_answer_is_told(
    client: httpx.AsyncClient, model: str, status: int, code: str
) -> None:
    reply = await client.post("/v1/classify", json={"input": "a", "model": model})
    assert reply.status_code == status
    error = reply.json()["error"]
    assert (error["code"], error["param"]) == (code, "model")
    assert "This route has: intents." in error["message"]


async def test_many_clients_at_once_get_their_own_answers(client: httpx.AsyncClient) -> None:
    alone = {}
    for text in TEXTS:
        reply = await client.post("/v1/classify", json={"input": text})
        alone[text] = reply.json()["data"][0]["score"]
    asked = list(TEXTS) * 8
    replies = await asyncio.gather(
        *(client.post("/v1/classify", json={"input": text}) for text in asked)
    )
    for text, reply in zip(asked, replies, strict=True):
        assert reply.json()["data"][0]["score"] == pytest.approx(alone[text], abs=1e-5)
