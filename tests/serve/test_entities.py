"""`/v1/entities` on a tiny real bundle."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio
import torch
from starlette.types import ASGIApp
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from ray_sft.bundle import Bundle, Manifest
from ray_sft.inference import Predictor
from ray_sft.tasks import TokenClassification
from serve.args import ServiceArgs
from serve.ingress import create_app
from serve.keys import KeyRing
from serve.metrics import ServiceMetrics
from serve.models import Models, load_models

from .conftest import TEXTS, _torch_bundle, client_with_key

pytestmark = pytest.mark.asyncio

ASKED = (*TEXTS, "Anna's  parcel\tis in Köln \U0001f600!", "包裹还没有到上海。")


@pytest.fixture(scope="module")
def tagger_bundle(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Bundle:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=1.0,  # so that words differ in their tags
        num_labels=5,
    )
    task = TokenClassification(labels=("person", "place"), max_length=64)
    manifest = Manifest(name="names", variant="trained", format="torch", tasks={"name": task})
    path = tmp_path_factory.mktemp("bundles") / "names"
    rows = [{"text": text} for text in ASKED]
    return _torch_bundle(path, BertForTokenClassification(config), tokenizer, manifest, rows)


@pytest.fixture(scope="module")
def args(tagger_bundle: Bundle, classifier_bundle: Bundle) -> ServiceArgs:
    bundles = {"names": str(tagger_bundle.path), "intents": str(classifier_bundle.path)}
    sizes = {"max_body_bytes": 8192, "max_inputs": 8, "max_batch_tokens": 512}
    return ServiceArgs(bundles=bundles, num_cpus=1, **sizes)


@pytest.fixture(scope="module")
def models(args: ServiceArgs, metrics: ServiceMetrics) -> Iterator[Models]:
    loaded = load_models(args, num_threads=1, metrics=metrics)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def app(args: ServiceArgs, models: Models, keys: KeyRing, metrics: ServiceMetrics) -> ASGIApp:
    return create_app(args, models=models, keys=keys, metrics=metrics)


@pytest_asyncio.fixture
async def client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with client_with_key(app) as client:
        yield client


async def test_answers_are_those_of_the_bundle(
    client: httpx.AsyncClient, tagger_bundle: Bundle
) -> None:
    reply = await client.post("/v1/entities", json={"input": list(ASKED)})
    assert reply.status_code == 200, reply.text
    tree = reply.json()
    assert tree["object"] == "list"
    assert tree["model"] == "names"
    predictor = Predictor(tagger_bundle)
    rows = [{"text": text} for text in ASKED]
    num_entities = 0
    for index, answer in enumerate(predictor.predict(rows)):
        item = tree["data"][index]
        assert item.keys() == {"index", "entities"}
        assert item["index"] == index
        for given, entity in zip(item["entities"], answer.entities, strict=True):
            assert given.keys() == {"label", "start", "end", "text", "score"}
            assert (given["label"], given["start"]) == (entity.label, entity.start)
            assert given["end"] == entity.end
            assert given["score"] == pytest.approx(entity.score, abs=1e-5)
            num_entities += 1
    assert len(tree["data"]) == len(ASKED)
    assert num_entities > len(ASKED)
    num_tokens = sum(example.length for example in predictor.encode(rows))
    assert tree["usage"] == {"prompt_tokens": num_tokens, "total_tokens": num_tokens}


async def test_the_text_of_an_entity_stands_at_its_characters(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/entities", json={"input": list(ASKED)})
    for text, item in zip(ASKED, reply.json()["data"], strict=True):
        end_before = 0
        for entity in item["entities"]:
            assert text[entity["start"] : entity["end"]] == entity["text"]
            assert entity["text"] == entity["text"].strip() != ""
            assert entity["start"] >= end_before, "in order, without overlap"
            end_before = entity["end"]


async def test_one_text_and_a_list_of_one_are_answered_alike(client: httpx.AsyncClient) -> None:
    one = await client.post("/v1/entities", json={"model": "names", "input": ASKED[0]})
    many = await client.post("/v1/entities", json={"input": [ASKED[0]]})
    assert one.status_code == 200
    assert one.json() == many.json()


async def test_a_text_without_entities_has_an_empty_list(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/entities", json={"input": [chr(c) for c in range(97, 105)]})
    lists = [item["entities"] for item in reply.json()["data"]]
    assert [] in lists


async def test_timing_is_told(client: httpx.AsyncClient) -> None:
    reply = await client.post("/v1/entities", json={"input": list(ASKED)})
    for name in ("x-queue-time", "x-tokenize-time", "x-inference-time"):
        assert 0 <= float(reply.headers[name]) < 10_000
    assert int(reply.headers["x-batch-size"]) == len(ASKED)


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ("{", None, "not JSON"),
        ("{}", "input", "Field required"),
        ('{"input": ""}', "input", "at least 1 character"),
        ('{"input": ["a", ""]}', "input.1", "at least 1 character"),
        ('{"input": "a", "top_k": 2}', "top_k", "'top_k' is not supported"),
        ('{"input": ["fine", "  "]}', "input.1", "missing or empty"),
        ('{"input": ["a","a","a","a","a","a","a","a","a"]}', "input", "9 texts; one request may"),
        ('{"input": "' + "0" * 70 + '"}', "input", "tokens"),
        ('{"input": "' + "x" * 5000 + '"}', "input", "5000 characters"),
    ],
)
async def test_a_bad_request_is_explained(
    client: httpx.AsyncClient, body: str, param: str | None, said: str
) -> None:
    reply = await client.post("/v1/entities", content=body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert said in error["message"]


@pytest.mark.parametrize(
    ("model", "status", "code"), [("none", 404, "model_not_found"), ("intents", 424, "wrong_task")]
)
async def test_a_model_that_cannot_answer_is_told(
    client: httpx.AsyncClient, model: str, status: int, code: str
) -> None:
    reply = await client.post("/v1/entities", json={"input": "a", "model": model})
    assert reply.status_code == status
    error = reply.json()["error"]
    assert (error["code"], error["param"]) == (code, "model")
    assert "This route has: names." in error["message"]


async def test_many_clients_at_once_get_their_own_answers(client: httpx.AsyncClient) -> None:
    alone = {}
    for text in ASKED:
        reply = await client.post("/v1/entities", json={"input": text})
        alone[text] = [entity["text"] for entity in reply.json()["data"][0]["entities"]]
    asked = list(ASKED) * 8
    replies = await asyncio.gather(
        *(client.post("/v1/entities", json={"input": text}) for text in asked)
    )
    for text, reply in zip(asked, replies, strict=True):
        entities = reply.json()["data"][0]["entities"]
        assert [entity["text"] for entity in entities] == alone[text]
