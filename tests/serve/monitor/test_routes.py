"""The routes through the whole ASGI application, border included."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from starlette.types import ASGIApp

from ray_sft.core import ServeError
from serve.args import ServiceArgs
from serve.border import Border
from serve.endpoints.monitor import monitor_router
from serve.ingress import create_api
from serve.keys import load_keys
from serve.limits import BodyLimit
from serve.metrics import ServiceMetrics
from serve.models import Models
from serve.monitor import MonitorArgs
from serve.monitor.item import Item
from serve.monitor.monitor import Monitor
from serve.monitor.opinion import Opinion
from serve.monitor.store import Store
from serve.outcomes import QueueFullError

from .conftest import NOON, Clock
from .feeds import calm, hour
from .words import read_words

pytestmark = pytest.mark.asyncio

TOKEN = "a-key-that-only-tests-use"
HEADERS = {"authorization": f"Bearer {TOKEN}"}


def application(monitor: Monitor, tmp_path: Path) -> ASGIApp:
    metrics = ServiceMetrics()
    service_args = ServiceArgs(bundles={"words": "not-opened"})
    api = create_api(service_args, models=Models({}), metrics=metrics)
    api.router.routes.extend(monitor_router(monitor).routes)
    return Border(
        BodyLimit(api, max_body_bytes=1 << 20),
        keys=load_keys(tmp_path / "none.json", {"RAY_SFT_API_KEYS": TOKEN}),
        metrics=metrics,
        public_paths=(),
        known_paths=(),
        request_timeout_s=20.0,
        adds_request_id=True,
    )


@pytest.fixture
def args(tmp_path: Path) -> MonitorArgs:
    return MonitorArgs.model_validate(
        {
            "model": "words",
            "database": f"sqlite:///{tmp_path}/monitor.db",
            "queue_wait_s": 0.0,
            "max_items": 300,
            "max_text_length": 100,
            "alerts": {"warmup_buckets": 4, "warmup_items": 10},
        }
    )


@pytest_asyncio.fixture
async def client(monitor: Monitor, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=application(monitor, tmp_path))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://service/v1/monitor", headers=HEADERS
    ) as opened:
        yield opened


def plain(item: Item) -> dict[str, object]:
    return {"id": item.id, "time": item.time / 1000, "text": item.text}


FEED = [
    plain(item)
    for item in (
        *calm("chips", range(12)),
        *hour("chips", 12, count=30, negative=26),
        *calm("chips", range(13, 16)),
    )
]


async def test_items_go_in_and_opinion_comes_out(client: httpx.AsyncClient) -> None:
    added = await client.post("/items", json={"items": FEED})
    assert added.status_code == 200, added.text
    assert added.json() == {"accepted": 180, "duplicates": 0, "rejected": []}
    (topic,) = (await client.get("/topics")).json()["topics"]
    assert topic == {
        "topic": "chips",
        "num_items": 180,
        "net_sentiment": pytest.approx(-56 / 180),
        "num_alerts": 1,
        "last_time": "2025-06-16T15:54:00.000Z",
    }
    (alert,) = (await client.get("/alerts", params={"topic": "chips"})).json()
    assert set(alert) == {
        "id", "topic", "start", "end", "kind", "severity", "count", "negative", "expected_share",
        "share", "score", "volume_score", "evidence", "acknowledged",
    }  # fmt: skip
    windows = (await client.get("/windows", params={"topic": "chips"})).json()
    assert (windows["topic"], windows["bucket_s"]) == ("chips", 3600)
    assert [window["count"] for window in windows["windows"]] == [10] * 12 + [30] + [10] * 3
    surging = windows["windows"][12]
    assert surging["alert"] == alert["id"]
    assert surging["start"] == alert["start"] == "2025-06-16T12:00:00.000Z"
    assert surging["net_sentiment"] == pytest.approx(-26 / 30)
    assert surging["low"] < surging["net_sentiment"] < surging["high"]


@pytest.mark.parametrize(
    ("time", "stored"),
    [
        ("2025-06-16T10:00:00+08:00", "2025-06-16T02:00:00.000Z"),
        (NOON + 0.5, "2025-06-16T00:00:00.500Z"),
    ],
)
async def test_one_item_may_stand_alone(
    client: httpx.AsyncClient, time: object, stored: str
) -> None:
    one = {"id": "a", "time": time, "text": "chips rose", "topics": ["NVDA"], "source": "wire"}
    added = await client.post("/items", json=one)
    assert added.json() == {"accepted": 1, "duplicates": 0, "rejected": []}
    page = (await client.get("/items")).json()
    (kept,) = page["items"]
    assert page["next_cursor"] is None
    assert kept.pop("received").endswith("Z")
    assert kept.pop("topic_score") == 0.9
    assert kept.pop("sentiment")["positive"] > 0.8
    assert kept == {
        "id": "a",
        "time": stored,
        "text": "chips rose",
        "source": "wire",
        "topics": ["NVDA"],
        "topic": "chips",
        "label": "positive",
        "polarity": "positive",
    }


async def test_a_bad_line_is_named_and_the_others_are_taken(client: httpx.AsyncClient) -> None:
    good = {"time": NOON, "text": "rail fell"}
    lines = [
        json.dumps({"id": "a", **good}),
        "",
        "{not json",
        json.dumps({"id": "b", "time": "noon", "text": "rail fell"}),
        json.dumps({"id": "c", "time": NOON}),
        json.dumps({"id": "d", "time": NOON, "text": "  "}),
        json.dumps({"id": "e", "time": NOON, "text": "x" * 101}),
        json.dumps({"id": "f", "time": NOON + 500 * 86_400, "text": "rail fell"}),
        json.dumps({"id": "g", "time": NOON, "text": "unreadable"}),
        json.dumps({"id": "h", **good, "mood": "bad"}),
        json.dumps({"id": "i", "time": NOON, "text": "nul \x00"}),
        '{"id": "j", "time": 1, "text": "half \\ud800"}',
        json.dumps({"id": 7, **good}),
        json.dumps([]),
        json.dumps({"id": "a", **good}),
        json.dumps({"id": "z", **good}),
    ]
    reply = await client.post(
        "/items",
        content="\n".join(lines),
        headers={"content-type": "application/x-ndjson; charset=utf-8"},
    )
    assert reply.status_code == 200, reply.text
    tree = reply.json()
    assert (tree["accepted"], tree["duplicates"]) == (2, 1)
    said = {one["line"]: (one["id"], one["reason"]) for one in tree["rejected"]}
    expected = {
        3: (None, "the line is not JSON"),
        4: ("b", "time: not ISO 8601"),
        5: ("c", "text: Field required"),
        6: ("d", "text: String should have at least 1 character"),
        7: ("e", "text has 101 characters; the monitor takes 100"),
        8: ("f", "time is 8640000 s ahead of now; 3600 s are allowed"),
        9: ("g", "the model failed on this text."),
        10: ("h", "'mood' is not supported"),
        11: ("i", "text: holds a NUL character"),
        12: (None, "the line is not JSON"),
        13: (None, "id: Input should be a valid string"),
        14: (None, "the body: Input should be a valid dictionary"),
    }
    assert list(said) == list(expected)
    for line, (identity, reason) in expected.items():
        assert said[line][0] == identity
        assert reason in said[line][1], said[line]


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        ("{", "application/json", "not JSON"),
        ("[]", "application/json", "valid dictionary"),
        ('{"items": []}', "application/json", "at least 1 item"),
        ('{"items": {}}', "application/json", "valid list"),
        ('{"items": [], "more": 1}', "application/json", "at least 1|'more' is not supported"),
        ("{}", "application/json", "Field required"),
        ('{"id": "a", "time": 1, "text": "' + "x" * 101 + '"}', "text/plain", "101 characters"),
        ("\n \n", "application/x-ndjson", "no item"),
        ("{}\n" * 301, "application/x-ndjson", "301 items; one may have 300"),
    ],
)
async def test_a_bad_request_is_explained(
    client: httpx.AsyncClient, body: str, content_type: str, said: str
) -> None:
    reply = await client.post("/items", content=body, headers={"content-type": content_type})
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert any(part in error["message"] for part in said.split("|")), error


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/windows", 400, "invalid_value"),
        ("/windows?topic=fish", 404, "topic_not_found"),
        ("/windows?topic=chips&since=0&bucket_s=1", 400, "invalid_span"),
        ("/windows?topic=chips&since=now", 400, "invalid_value"),
        ("/windows?topic=chips&since=2025-06-16T00:00:00+00:00", 400, "invalid_value"),
        ("/windows?topic=chips&bucket_s=0", 400, "invalid_value"),
        ("/windows?topic=%00", 400, "invalid_value"),
        ("/items?limit=0", 400, "invalid_value"),
        ("/items?sentiment=sad", 400, "invalid_value"),
        ("/items?cursor=none", 400, "invalid_value"),
        ("/items?cursor=WzEsICJcdTAwMDAiXQ==", 400, "invalid_value"),
        ("/items?topic=%00", 400, "invalid_value"),
        ("/alerts?since=1750032000000", 400, "invalid_value"),
        ("/topics?since=", 400, "invalid_value"),
    ],
)
async def test_a_bad_query_is_explained(
    client: httpx.AsyncClient, path: str, status: int, code: str
) -> None:
    await client.post("/items", json={"items": FEED[:50]})
    reply = await client.get(path)
    assert reply.status_code == status, reply.text
    assert reply.json()["error"]["code"] == code


async def test_pages_follow_their_cursors(client: httpx.AsyncClient) -> None:
    await client.post("/items", json={"items": FEED})
    ids, cursor = [], None
    while True:
        query = {"sentiment": "negative", "limit": 25} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/items", params=query)).json()
        ids += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(ids) == len(set(ids)) == 56


async def test_an_alert_is_acknowledged(client: httpx.AsyncClient) -> None:
    await client.post("/items", json={"items": FEED})
    (alert,) = (await client.get("/alerts")).json()
    for _ in range(2):
        reply = await client.post(f"/alerts/{alert['id']}/acknowledge")
        assert reply.json() == alert | {"acknowledged": True}
    assert (await client.get("/alerts")).json() == [alert | {"acknowledged": True}]
    missing = await client.post("/alerts/none/acknowledge")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "alert_not_found")


async def test_a_monitor_without_a_webhook_says_so(client: httpx.AsyncClient) -> None:
    reply = await client.post("/webhook/test")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "no_webhook")


async def test_a_full_queue_is_429_and_takes_nothing(
    args: MonitorArgs, clock: Clock, tmp_path: Path
) -> None:
    async def full(texts: Sequence[str]) -> list[Opinion | ServeError]:
        del texts
        raise QueueFullError(512, max_queued=512, retry_after_s=7)

    monitor = Monitor(full, Store(args), args, clock=clock)
    await monitor.open()
    transport = httpx.ASGITransport(app=application(monitor, tmp_path))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://service/v1/monitor", headers=HEADERS
    ) as client:
        reply = await client.post("/items", json={"items": FEED})
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "7")
        assert reply.json()["error"]["code"] == "queue_full"
        assert (await client.get("/items")).json()["items"] == []
    await monitor.close()


async def test_a_database_that_is_away_is_503(
    args: MonitorArgs, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = "postgresql+psycopg://user:secret-word@127.0.0.1:9/none"
    away = args.model_copy(update={"database": url})
    monitor = Monitor(read_words, Store(away), away, clock=clock)
    transport = httpx.ASGITransport(app=application(monitor, tmp_path))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://service/v1/monitor", headers=HEADERS
    ) as client:
        replies = [await client.post("/items", json=FEED[0]), await client.get("/topics")]
    for reply in replies:
        assert reply.status_code == 503
        assert reply.json()["error"]["code"] == "database_unavailable"
    assert "secret-word" not in caplog.text
    await monitor.close()


async def test_every_route_is_described(client: httpx.AsyncClient) -> None:
    paths = (await client.get("http://service/openapi.json")).json()["paths"]
    ours = {path: set(verbs) for path, verbs in paths.items() if "/monitor/" in path}
    assert ours == {
        "/v1/monitor/items": {"get", "post"},
        "/v1/monitor/topics": {"get"},
        "/v1/monitor/windows": {"get"},
        "/v1/monitor/alerts": {"get"},
        "/v1/monitor/alerts/{alert}/acknowledge": {"post"},
        "/v1/monitor/webhook/test": {"post"},
    }
    content = paths["/v1/monitor/items"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "application/x-ndjson"}
