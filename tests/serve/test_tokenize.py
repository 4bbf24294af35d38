"""`/v1/tokenize` and `/v1/detokenize` on the tiny models of the service."""

import json
import time
from typing import Any

import httpx
import pytest
from transformers import PreTrainedTokenizerFast

from ray_sft.bundle import Bundle
from ray_sft.core import DataError
from ray_sft.tasks import (
    CausalClozeClassification,
    ClozeClassification,
    Embedding,
    MultiLabelClassification,
    SequenceClassification,
    Task,
    TokenClassification,
    Translation,
)
from serve.args import ServiceArgs
from serve.ingress import create_app
from serve.keys import KeyRing
from serve.metrics import ServiceMetrics
from serve.models import Models, load_models
from serve.tokens import detokenize, tokenize_texts
from tests.factories import TASKS

from .conftest import TEXTS, TOKEN, client_with_key
from .test_heads import market, market_app, market_args, market_bundle, market_models

__all__ = ["market", "market_app", "market_args", "market_bundle", "market_models"]

pytestmark = pytest.mark.asyncio

USER = {"role": "user", "content": "hello"}
MIXED = "Köln \U0001f600 pays 12\u20ac，转账 done"


async def tokenized(client: httpx.AsyncClient, **body: object) -> dict:
    reply = await client.post("/v1/tokenize", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_tokens_are_those_of_the_tokenizer(
    client: httpx.AsyncClient, tokenizer: PreTrainedTokenizerFast
) -> None:
    tree = await tokenized(client, model="intents", input=[*TEXTS, MIXED])
    assert (tree["object"], tree["model"], tree["max_length"]) == ("list", "intents", 64)
    for index, (item, text) in enumerate(zip(tree["data"], [*TEXTS, MIXED], strict=True)):
        expected = tokenizer(text)
        assert item["index"] == index
        assert item["ids"] == expected["input_ids"]
        assert item["tokens"] == expected.tokens()
        assert item["count"] == len(item["ids"])


async def test_the_count_is_what_classify_counts(client: httpx.AsyncClient) -> None:
    texts = [*TEXTS, MIXED]
    tree = await tokenized(client, model="intents", input=texts)
    reply = await client.post("/v1/classify", json={"model": "intents", "input": texts})
    assert sum(one["count"] for one in tree["data"]) == reply.json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    ("path", "model", "part"),
    [
        ("/v1/classify", "market/topic", "input"),
        ("/v1/classify", "market/moods", "input"),
        ("/v1/embeddings", "market/vector", "input"),
        ("/v1/score", "market/click", "candidates"),
    ],
)
async def test_the_count_is_what_every_route_counts(
    market: httpx.AsyncClient, path: str, model: str, part: str
) -> None:
    texts = [*TEXTS, MIXED]
    tree = await tokenized(market, model=model, input=texts)
    reply = await market.post(path, json={"model": model, part: texts})
    assert reply.status_code == 200, reply.text
    assert sum(one["count"] for one in tree["data"]) == reply.json()["usage"]["prompt_tokens"]


async def test_a_conversation_is_counted_as_chat_counts_it(client: httpx.AsyncClient) -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "where is "}]},
        {"role": "assistant", "content": "here <|user|> it is"},
        {"role": "user", "content": MIXED},
    ]
    (item,) = (await tokenized(client, model="replies", messages=messages))["data"]
    body = {"model": "replies", "messages": messages, "max_tokens": 1}
    reply = await client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    assert item["count"] == len(item["ids"]) == reply.json()["usage"]["prompt_tokens"]
    assert item["tokens"].count("<|user|>") == 2, "the marker that a person wrote is no turn"
    assert item["offsets"] is None


async def test_offsets_count_code_points(client: httpx.AsyncClient) -> None:
    (item,) = (await tokenized(client, model="replies", input=MIXED))["data"]
    assert len(item["offsets"]) == item["count"]
    assert (item["tokens"][0], item["offsets"][0]) == ("<|bos|>", None)
    places = item["offsets"][1:]
    covered = {place for start, end in places for place in range(start, end)}
    assert covered == set(range(len(MIXED)))
    starts = [start for start, _ in places]
    assert starts == sorted(starts)
    place = MIXED.index("1")
    (digit,) = [
        token
        for token, where in zip(item["tokens"], item["offsets"], strict=True)
        if where == [place, place + 1]
    ]
    assert digit == "1"


CASES = (
    CausalClozeClassification,
    ClozeClassification,
    Embedding,
    MultiLabelClassification,
    SequenceClassification,
    TokenClassification,
    Translation,
)


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
async def test_a_text_is_read_as_its_task_reads_it(kind: type[Task]) -> None:
    case = TASKS[kind]()
    texts = [row["text"] for row in case.unlabelled if "text" in row]
    found = tokenize_texts(texts, case.task, case.processor, add_special_tokens=True)
    examples = case.task.encode([{"text": text} for text in texts], case.processor)
    for text, one, example in zip(texts, found, examples, strict=True):
        assert one.ids == example.arrays["input_ids"].tolist()
        assert one.tokens == case.processor.convert_ids_to_tokens(one.ids)
        assert one.offsets is None or len(one.offsets) == len(one.ids)
        (bare,) = tokenize_texts([text], case.task, case.processor, add_special_tokens=False)
        assert bare.ids == case.processor(text, add_special_tokens=False)["input_ids"]


async def test_what_is_put_around_a_text_has_no_place_in_it() -> None:
    case = TASKS[ClozeClassification]()
    text = "I want a refund."
    (found,) = tokenize_texts([text], case.task, case.processor, add_special_tokens=True)
    assert found.offsets is not None
    spelled = [
        token if where is None else text[slice(*where)].lower()
        for token, where in zip(found.tokens, found.offsets, strict=True)
    ]
    assert spelled[0] == "[CLS]"
    assert spelled[-1] == "[SEP]"
    assert "[MASK]" in spelled
    assert "".join(spelled[1:]).startswith("iwantarefund.")


async def test_nothing_of_a_text_is_cut(client: httpx.AsyncClient) -> None:
    (item,) = (await tokenized(client, model="intents", input="0" * 100))["data"]
    assert item["count"] == 100
    reply = await client.post("/v1/classify", json={"model": "intents", "input": "0" * 100})
    assert "has 100 tokens; the model takes 64" in reply.json()["error"]["message"]


async def test_a_text_of_white_space_has_tokens_too(client: httpx.AsyncClient) -> None:
    tree = await tokenized(client, model="intents", input=["  ", "\n"])
    assert [one["offsets"][-1][1] for one in tree["data"]] == [2, 1]


async def test_a_text_is_counted_as_completions_counts_it(client: httpx.AsyncClient) -> None:
    text = f"{MIXED} <|user|>"
    (item,) = (await tokenized(client, model="replies", input=text))["data"]
    body = {"model": "replies", "prompt": text, "max_tokens": 1}
    reply = await client.post("/v1/completions", json=body)
    assert reply.status_code == 200, reply.text
    assert item["count"] == reply.json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize("model", ["intents", "replies"])
async def test_ids_are_spelled_as_the_text_they_came_from(
    client: httpx.AsyncClient, model: str
) -> None:
    texts = [*TEXTS, MIXED]
    lists = [one["ids"] for one in (await tokenized(client, model=model, input=texts))["data"]]
    reply = await client.post("/v1/detokenize", json={"model": model, "ids": lists})
    assert reply.status_code == 200, reply.text
    assert [one["text"] for one in reply.json()["data"]] == texts
    reply = await client.post("/v1/detokenize", json={"model": model, "ids": lists[-1]})
    assert [one["text"] for one in reply.json()["data"]] == [MIXED]


async def test_special_tokens_are_spelled_where_that_is_wished(client: httpx.AsyncClient) -> None:
    (item,) = (await tokenized(client, model="replies", input="a"))["data"]
    body = {"model": "replies", "ids": item["ids"], "skip_special_tokens": False}
    reply = await client.post("/v1/detokenize", json=body)
    assert reply.json()["data"] == [{"index": 0, "text": "<|bos|>a"}]


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "said"),
    [
        ("tokenize", {}, 400, None, "give input or messages"),
        ("tokenize", {"input": "a", "messages": [USER]}, 400, None, "one of them"),
        ("tokenize", {"input": ""}, 400, "input", "at least 1 character"),
        ("tokenize", {"input": []}, 400, "input", "at least 1"),
        ("tokenize", {"input": ["a", 1]}, 400, "input.1", "valid string"),
        ("tokenize", {"input": ["a"] * 9}, 400, "input", "9 texts; one request may have 8"),
        ("tokenize", {"input": ["a", "x" * 5000]}, 400, "input.1", "5000 characters"),
        ("tokenize", {"input": "a", "top_k": 1}, 400, "top_k", "not supported"),
        ("tokenize", {"messages": []}, 400, "messages", "at least 1"),
        ("tokenize", {"messages": [USER]}, 424, "messages", "reads no conversation"),
        (
            "tokenize",
            {"messages": [USER], "add_special_tokens": False},
            400,
            None,
            "what the chat template writes",
        ),
        (
            "tokenize",
            {"model": "replies", "messages": [USER | {"content": "x" * 5000}]},
            400,
            "messages",
            "5000 characters",
        ),
        ("detokenize", {}, 400, "ids", "Field required"),
        ("detokenize", {"ids": []}, 400, "ids", "at least 1"),
        ("detokenize", {"ids": [[1], []]}, 400, "ids.1", "at least 1"),
        ("detokenize", {"ids": [[1]] * 9}, 400, "ids", "one request may have 8"),
        ("detokenize", {"ids": [1, -1]}, 400, "ids.1", "greater than or equal to 0"),
        ("detokenize", {"ids": [1, 1 << 31]}, 400, "ids.1", "less than"),
        ("detokenize", {"ids": [True]}, 400, "ids.0", "valid integer"),
        ("detokenize", {"ids": [1.0]}, 400, "ids.0", "valid integer"),
        ("detokenize", {"ids": [1, 2, 5000]}, 400, "ids", "id 5000 at place 2 is not in the"),
        ("detokenize", {"ids": [[1], [5000]]}, 400, "ids.1", "id 5000 at place 0 is not in the"),
    ],
)
async def test_a_bad_request_is_explained(
    client: httpx.AsyncClient,
    path: str,
    body: dict[str, Any],
    status: int,
    param: str | None,
    said: str,
) -> None:
    reply = await client.post(f"/v1/{path}", json={"model": "intents"} | body)
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert said in error["message"]


@pytest.mark.parametrize(
    ("path", "part"), [("tokenize", {"input": "a"}), ("detokenize", {"ids": [1]})]
)
async def test_a_model_has_to_be_named_and_known(
    client: httpx.AsyncClient, path: str, part: dict[str, Any]
) -> None:
    for body, status, code in (
        ({}, 400, "missing_model"),
        ({"model": "x"}, 404, "model_not_found"),
    ):
        reply = await client.post(f"/v1/{path}", json=part | body)
        assert reply.status_code == status
        error = reply.json()["error"]
        assert (error["code"], error["param"]) == (code, "model")
        assert "This route has: intents, replies." in error["message"]


async def test_every_id_of_the_vocabulary_is_one_and_no_other(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    for token in range(len(tokenizer)):
        detokenize([token], tokenizer, skip_special_tokens=False)
    for token in (-1, len(tokenizer)):
        with pytest.raises(DataError, match=f"id {token} at place 0"):
            detokenize([token], tokenizer, skip_special_tokens=False)


async def test_a_conversation_that_no_template_can_render_is_refused(
    keys: KeyRing, service_args: ServiceArgs, models: Models, metrics: ServiceMetrics
) -> None:
    _, model = models.generator("replies", "a test")
    template, model.processor.chat_template = model.processor.chat_template, None
    try:
        app = create_app(service_args, models=models, keys=keys, metrics=metrics)
        async with client_with_key(app) as client:
            body = {"model": "replies", "messages": [USER]}
            reply = await client.post("/v1/tokenize", json=body)
    finally:
        model.processor.chat_template = template
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "messages"
    assert "no chat template" in reply.json()["error"]["message"]


async def test_a_long_text_does_not_stop_the_event_loop(
    keys: KeyRing, generator_bundle: Bundle, metrics: ServiceMetrics
) -> None:
    args = ServiceArgs(bundles={"replies": str(generator_bundle.path)}, num_cpus=1, max_inputs=1000)
    models = load_models(args, num_threads=1, metrics=metrics)
    app = create_app(args, models=models, keys=keys, metrics=metrics)
    texts = [MIXED * 70] * 350
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://service",
        headers={"authorization": f"Bearer {TOKEN}"},
    ) as client:
        content = json.dumps({"input": texts}, ensure_ascii=False).encode()
        mine, every = time.thread_time(), time.process_time()
        reply = await client.post("/v1/tokenize", content=content)
        mine, every = time.thread_time() - mine, time.process_time() - every
    models.close()
    assert reply.status_code == 200, reply.text
    assert len(reply.json()["data"]) == len(texts)
    assert every > 0.2, "the texts are long enough to tell"
    assert mine < 0.25 * every
