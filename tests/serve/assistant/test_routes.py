"""`/v1/assistant/...` through the border and the framework."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from starlette.routing import Route
from starlette.types import ASGIApp

from serve.args import ServiceArgs
from serve.assistant.assistant import Assistant
from serve.border import Border
from serve.endpoints.assistant import assistant_router
from serve.ingress import create_api
from serve.keys import load_keys
from serve.metrics import ServiceMetrics
from serve.models import Models
from serve.outcomes import QueueFullError, RefusedError, StoppedError
from tests.serve.conftest import TOKEN, client_with_key

from .conftest import KNOWLEDGE

pytestmark = pytest.mark.asyncio


@pytest.fixture
def service(assistant: Assistant, tmp_path: Path) -> ASGIApp:
    metrics = ServiceMetrics()
    args = ServiceArgs(bundles={"unused": "unused"})
    api = create_api(args, models=Models({}), metrics=metrics)
    api.router.routes.extend(assistant_router(assistant).routes)
    return Border(
        api,
        keys=load_keys(tmp_path / "none.json", {"RAY_SFT_API_KEYS": TOKEN}),
        metrics=metrics,
        public_paths=["/openapi.json", "/docs"],
        known_paths=[route.path for route in api.routes if isinstance(route, Route)],
        request_timeout_s=20.0,
        adds_request_id=True,
    )


@pytest_asyncio.fixture
async def http(service: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    async with client_with_key(service) as client:
        yield client


async def test_an_answer_can_be_followed_to_its_place_in_the_document(
    http: httpx.AsyncClient,
) -> None:
    body = {"question": "Can a swollen battery be charged?", "top_k": 1}
    reply = await http.post("/v1/assistant/answer", json=body)
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    assert set(answer) == {
        "id",
        "kind",
        "answer",
        "language",
        "confidence",
        "intent",
        "citations",
        "suggestions",
    }
    assert (answer["kind"], answer["language"], answer["intent"]) == ("passages", "en", None)
    (citation,) = answer["citations"]
    opened = (await http.get(f"/v1/assistant/knowledge/{citation['document_id']}")).json()
    assert opened["text"][citation["start"] : citation["end"]] == citation["text"]
    assert opened["source"] == "https://example.org/battery"


async def test_knowledge_is_added_found_replaced_and_removed(http: httpx.AsyncClient) -> None:
    entry = {
        "id": "hours:en.1",
        "kind": "approved",
        "title": "When are you open?",
        "text": "From 9 to 18 h.",
    }
    question = {"question": "when are you open"}
    added = await http.put("/v1/assistant/knowledge", json={"documents": [entry, {"id": "x"}]})
    assert added.status_code == 200
    assert {name: added.json()[name] for name in ("added", "updated", "unchanged", "passages")} == {
        "added": 1,
        "updated": 0,
        "unchanged": 0,
        "passages": 1,
    }
    (rejected,) = added.json()["rejected"]
    assert (rejected["index"], rejected["id"]) == (1, "x")
    answer = (await http.post("/v1/assistant/answer", json=question)).json()
    assert (answer["kind"], answer["answer"]) == ("approved", "From 9 to 18 h.")
    entry["text"] = "From 10 to 20 h."
    await http.put("/v1/assistant/knowledge", json={"documents": [entry]})
    answer = (await http.post("/v1/assistant/answer", json=question)).json()
    assert answer["answer"] == "From 10 to 20 h."
    deleted = await http.delete("/v1/assistant/knowledge/hours:en.1")
    assert deleted.json() == {"id": "hours:en.1", "deleted": True}
    answer = (await http.post("/v1/assistant/answer", json=question)).json()
    assert answer["kind"] == "unknown"
    for reply in (
        await http.get("/v1/assistant/knowledge/hours:en.1"),
        await http.delete("/v1/assistant/knowledge/hours:en.1"),
    ):
        assert reply.status_code == 404
        assert reply.json()["error"]["code"] == "document_not_found"


async def test_the_listing_is_cut_into_pages(http: httpx.AsyncClient) -> None:
    seen, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await http.get("/v1/assistant/knowledge", params=params)).json()
        assert all("text" not in entry for entry in page["documents"])
        seen.extend(entry["id"] for entry in page["documents"])
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(str(entry["id"]) for entry in KNOWLEDGE)


async def test_feedback_is_stored_once_per_answer(
    http: httpx.AsyncClient, assistant: Assistant
) -> None:
    answer = (await http.post("/v1/assistant/answer", json={"question": "Do quokkas sing?"})).json()
    for said in ("up", "down", "down"):
        body = {"answer_id": answer["id"], "verdict": said, "reason": "no help"}
        reply = await http.post("/v1/assistant/feedback", json=body)
        assert reply.json() == {"answer_id": answer["id"], "verdict": said}
    (row,) = await assistant.feedback.all()
    assert (row["verdict"], row["question"], row["kind"]) == ("down", "Do quokkas sing?", "unknown")


@pytest.mark.parametrize(
    ("verb", "path", "body", "param"),
    [
        ("POST", "answer", {}, "question"),
        ("POST", "answer", {"question": ""}, "question"),
        ("POST", "answer", {"question": " \u200b "}, "question"),
        ("POST", "answer", {"question": "x" * 1001}, "question"),
        ("POST", "answer", {"question": "a", "top_k": 11}, "top_k"),
        ("POST", "answer", {"question": "a", "language": "fr"}, "language"),
        ("POST", "answer", {"question": "a", "user": "b"}, "user"),
        ("PUT", "knowledge", {"documents": []}, "documents"),
        ("PUT", "knowledge", {"documents": [{}] * 101}, "documents"),
        ("POST", "feedback", {"answer_id": "1", "verdict": "up"}, "answer_id"),
        ("POST", "feedback", {"answer_id": f"answer-{0:032x}", "verdict": "so"}, "verdict"),
    ],
)
async def test_a_wrong_body_is_refused_by_name(
    http: httpx.AsyncClient, verb: str, path: str, body: dict, param: str
) -> None:
    reply = await http.request(verb, f"/v1/assistant/{path}", json=body)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "path", ["knowledge?limit=0", "knowledge?limit=201", "knowledge?cursor=%27", "knowledge/a%20b"]
)
async def test_a_wrong_parameter_is_refused(http: httpx.AsyncClient, path: str) -> None:
    reply = await http.get(f"/v1/assistant/{path}")
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["code"] == "invalid_value"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (QueueFullError(9, max_queued=8, retry_after_s=3), 429, "queue_full"),
        (RefusedError("the text has 600 tokens."), 400, "invalid_text"),
        (StoppedError("the service is stopping."), 503, "stopping"),
    ],
)
async def test_errors_of_the_embedding_model_have_their_status(
    http: httpx.AsyncClient,
    assistant: Assistant,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    code: str,
) -> None:
    async def failing(_: object) -> None:
        raise error

    monkeypatch.setattr(assistant, "_embed", failing)
    reply = await http.post("/v1/assistant/answer", json={"question": "Where is it?"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    if status == 429:
        assert reply.headers["retry-after"] == "3"


async def test_every_route_needs_a_key(service: ASGIApp) -> None:
    transport = httpx.ASGITransport(app=service)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as stranger:
        for verb, path in (
            ("POST", "answer"),
            ("POST", "feedback"),
            ("PUT", "knowledge"),
            ("GET", "knowledge"),
            ("GET", "knowledge/track-en"),
            ("DELETE", "knowledge/track-en"),
        ):
            reply = await stranger.request(verb, f"/v1/assistant/{path}")
            assert reply.status_code == 401, path


async def test_the_description_shows_what_a_document_is(http: httpx.AsyncClient) -> None:
    paths = (await http.get("/openapi.json")).json()["paths"]
    body = paths["/v1/assistant/knowledge"]["put"]["requestBody"]["content"]["application/json"]
    document = body["schema"]["properties"]["documents"]["items"]
    assert {"id", "kind", "title", "text"} <= set(document["required"])
    assert "approved" in str(document["properties"]["kind"])
