"""The three applications on the models of one service, opened and closed with it."""

from importlib import resources
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from ray_sft.core import ServeError, load_tree, validate
from ray_sft.recipes import packaged_recipes
from serve.args import ServiceArgs
from serve.ingress import create_api
from serve.metrics import ServiceMetrics
from serve.models import load_models
from tests.factories import TEXTS
from tests.serve.test_heads import market_bundle

__all__ = ["market_bundle"]


@pytest.fixture
def args(market_bundle, tmp_path) -> ServiceArgs:
    return ServiceArgs.model_validate(
        {
            "bundles": {"market": str(market_bundle.path)},
            "num_cpus": 1,
            "assistant": {
                "embedding_model": "market/vector",
                "intent_model": "market/topic",
                "knowledge": str(tmp_path / "knowledge.lance"),
            },
            "monitor": {"model": "market", "database": f"sqlite:///{tmp_path}/monitor.db"},
            "recommend": {
                "embedding_model": "market/vector",
                "ranking_model": "market/click",
                "database": f"sqlite:///{tmp_path}/recommend.db",
            },
        }
    )


@pytest_asyncio.fixture
async def service(args):
    metrics = ServiceMetrics()
    models = load_models(args, num_threads=1, metrics=metrics)
    api = create_api(args, models=models, metrics=metrics)
    async with api.router.lifespan_context(api):
        transport = httpx.ASGITransport(app=api)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            yield client


@pytest.mark.asyncio
async def test_the_assistant_answers_what_it_was_taught_and_nothing_else(service):
    empty = await service.post("/v1/assistant/answer", json={"question": TEXTS[1]})
    assert empty.json()["kind"] == "unknown"
    taught = {"id": "refund", "kind": "approved", "title": TEXTS[1], "text": "We pay it back."}
    put = await service.put("/v1/assistant/knowledge", json={"documents": [taught]})
    assert put.json()["added"] == 1, put.text
    answer = (await service.post("/v1/assistant/answer", json={"question": TEXTS[1]})).json()
    assert answer["kind"] == "approved"
    assert answer["answer"] == "We pay it back."
    assert answer["intent"]["label"] in ("bank", "chips", "oil")


@pytest.mark.asyncio
async def test_the_monitor_counts_what_the_heads_say(service):
    items = [
        {"id": f"item-{number}", "time": 1_700_000_000 + 60 * number, "text": text}
        for number, text in enumerate(TEXTS)
    ]
    receipt = (await service.post("/v1/monitor/items", json={"items": items})).json()
    assert receipt == {"accepted": len(TEXTS), "duplicates": 0, "rejected": []}
    again = (await service.post("/v1/monitor/items", json={"items": items})).json()
    assert again["duplicates"] == len(TEXTS)
    topics = (await service.get("/v1/monitor/topics")).json()["topics"]
    classes = await service.post(
        "/v1/classify", json={"input": list(TEXTS), "model": "market/topic"}
    )
    expected = [item["label"] for item in classes.json()["data"]]
    assert {one["topic"]: one["num_items"] for one in topics} == {
        label: expected.count(label) for label in set(expected)
    }


@pytest.mark.asyncio
async def test_the_monitor_reads_the_beginning_of_a_long_text(service):
    item = {"id": "long", "time": 1_700_000_000, "text": " ".join(TEXTS) * 20}
    receipt = (await service.post("/v1/monitor/items", json={"items": [item]})).json()
    assert receipt == {"accepted": 1, "duplicates": 0, "rejected": []}


@pytest.mark.asyncio
async def test_recommendations_heed_what_a_user_hides(service):
    items = [{"id": f"i{n}", "title": text, "category": "x"} for n, text in enumerate(TEXTS)]
    assert (await service.post("/v1/recommend/items", json={"items": items})).status_code == 200
    ranked = (await service.post("/v1/recommend/rank", json={"user": "u", "top_k": 6})).json()
    assert ranked["cold_start"]
    first = ranked["items"][0]["id"]
    event = {"id": "e1", "user": "u", "item": first, "kind": "hide"}
    await service.post("/v1/recommend/events", json={"events": [event]})
    again = (await service.post("/v1/recommend/rank", json={"user": "u", "top_k": 6})).json()
    assert first not in [item["id"] for item in again["items"]]
    assert len(again["items"]) == len(TEXTS) - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"assistant": {"embedding_model": "none"}}, r"assistant\.embedding_model: model 'none'"),
        ({"monitor": {"model": "market", "topic_task": "vector"}}, "run together"),
        ({"monitor": {"model": "market", "negative": ["bad"]}}, "bad"),
        (
            {"recommend": {"embedding_model": "market/vector", "ranking_model": "market/topic"}},
            r"recommend\.ranking_model: .*cannot ask",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_named_before_anything_starts(args, change, message):
    metrics = ServiceMetrics()
    models = load_models(args, num_threads=1, metrics=metrics)
    tree = args.model_dump() | {"assistant": None, "monitor": None, "recommend": None} | change
    try:
        with pytest.raises(ServeError, match=message):
            create_api(ServiceArgs.model_validate(tree), models=models, metrics=metrics)
    finally:
        models.close()


def test_the_packaged_configuration_is_valid():
    path = Path(str(resources.files("serve"))) / "configs" / "applications.yaml"
    args = validate(ServiceArgs, load_tree(path), what="the packaged configuration")
    assert args.assistant is not None
    assert args.monitor is not None
    assert args.recommend is not None
    named = {args.assistant.intent_model, args.monitor.model, args.assistant.embedding_model}
    assert named <= set(args.bundles)
    assert set(args.bundles) <= set(packaged_recipes())
