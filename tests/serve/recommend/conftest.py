"""A shop with customers, a real if simple embedding, and the recommender around them."""

import asyncio
import csv
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
import pytest_asyncio
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from ray_sft.samples import SAMPLES_DIR
from serve.endpoints.recommend import recommend_router
from serve.errors import ApiError, error_body, explain_problem
from serve.recommend import RecommendArgs
from serve.recommend.catalogue import Catalogue, Item, item_text
from serve.recommend.events import KINDS, EventLog, Tastes
from serve.recommend.recommender import Recommender
from serve.recommend.store import Store

DIM = 256
TASTES = Tastes(liked_rating=4.0, disliked_rating=2.5)
SHOP_EVENTS = {"view": "click", "like": "like", "hide": "hide", "purchase": "purchase"}


def bag_of_words(texts: Sequence[str]) -> np.ndarray:
    """Words hashed into a vector of length 1: equal texts are equal, shared words are near."""
    vectors = np.zeros((len(texts), DIM), np.float32)
    for row, text in enumerate(texts):
        for word in "".join(c if c.isalnum() else " " for c in text.lower()).split():
            vectors[row, zlib.crc32(word.encode()) % DIM] += 1.0
    return vectors / np.maximum(1e-9, np.linalg.norm(vectors, axis=1, keepdims=True))


class Embedder:
    """Bag of words as the service's models are asked; counts the texts."""

    def __init__(self) -> None:
        self.num_texts = 0

    async def __call__(self, texts: Sequence[str]) -> np.ndarray:
        await asyncio.sleep(0)
        self.num_texts += len(texts)
        return bag_of_words(texts)


def make_log(rows: Sequence[tuple[float, int, int, str, float | None]]) -> EventLog:
    """Rows of (time, user, item, kind, value)."""
    return EventLog(
        times=np.asarray([row[0] for row in rows], np.float64),
        users=np.asarray([row[1] for row in rows], np.int32),
        items=np.asarray([row[2] for row in rows], np.int32),
        kinds=np.asarray([KINDS.index(row[3]) for row in rows], np.int8),
        values=np.asarray([np.nan if row[4] is None else row[4] for row in rows], np.float32),
        tastes=TASTES,
    )


def make_catalogue(
    num_items: int, *, categories: int = 3, published: float | None = None
) -> Catalogue:
    items = tuple(
        Item(f"i{n:03}", f"thing number {n} kind {n % 5}", "", f"c{n % categories}", published)
        for n in range(num_items)
    )
    return Catalogue(items, bag_of_words([item_text(item) for item in items]))


def shop_items() -> list[dict]:
    with (SAMPLES_DIR / "items.csv").open(encoding="utf-8", newline="") as file:
        return [
            {
                "id": row["item_id"],
                "title": row["title"],
                "text": row["description"],
                "category": row["category"],
            }
            for row in csv.DictReader(file)
        ]


def shop_events() -> list[dict]:
    with (SAMPLES_DIR / "interactions.csv").open(encoding="utf-8", newline="") as file:
        return [
            {
                "id": f"event-{number}",
                "user": row["user_id"],
                "item": row["item_id"],
                "kind": SHOP_EVENTS[row["event"]],
                "time": row["time"],
                "value": float(row["rating"]) if row["rating"] else None,
            }
            for number, row in enumerate(csv.DictReader(file))
        ]


def shop_catalogue() -> Catalogue:
    items = tuple(Item(**row) for row in shop_items())
    return Catalogue(items, bag_of_words([item_text(item) for item in items]))


def shop_log(catalogue: Catalogue) -> EventLog:
    users: dict[str, int] = {}
    return make_log(
        [
            (
                datetime.fromisoformat(event["time"]).timestamp(),
                users.setdefault(event["user"], len(users)),
                catalogue.numbers[event["item"]],
                event["kind"],
                event["value"],
            )
            for event in shop_events()
        ]
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/recommend.db"


@pytest.fixture
def store(url: str):
    store = Store.open(url)
    yield store
    store.close()


@pytest.fixture
def args(url: str) -> RecommendArgs:
    return RecommendArgs(embedding_model="words", database=url, min_history=3)


@pytest.fixture
def embedder() -> Embedder:
    return Embedder()


@pytest_asyncio.fixture
async def opened(
    args: RecommendArgs, embedder: Embedder
) -> AsyncIterator[Callable[..., "asyncio.Future[Recommender]"]]:
    """Opens recommenders on the test's database; all are closed at the end."""
    recommenders: list[Recommender] = []

    async def build(**changes: object) -> Recommender:
        settings = {"embed": embedder, "fingerprint": "words-1", **changes}
        own = settings.pop("args", args)
        recommender = Recommender(own, store=Store.open(own.database), **settings)
        await recommender.open()
        recommenders.append(recommender)
        return recommender

    yield build
    for recommender in recommenders:
        await recommender.close()


def client_of(recommender: Recommender) -> httpx.AsyncClient:
    """The routes with the service's errors, without its border."""

    async def reply(_: Request, error: Exception) -> Response:
        if isinstance(error, RequestValidationError):
            error = explain_problem(error.errors()[0])
        assert isinstance(error, ApiError)
        return Response(error_body(error), status_code=error.status, headers=error.headers)

    api = FastAPI()
    api.include_router(recommend_router(recommender))
    api.add_exception_handler(ApiError, reply)
    api.add_exception_handler(RequestValidationError, reply)
    transport = httpx.ASGITransport(app=api)
    return httpx.AsyncClient(transport=transport, base_url="http://service", timeout=60)


@pytest_asyncio.fixture
async def client(opened) -> AsyncIterator[httpx.AsyncClient]:
    """Routes on an empty recommender."""
    async with client_of(await opened()) as client:
        yield client


@pytest_asyncio.fixture
async def shop(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Routes on the shop with all its events."""
    reply = await client.put("/v1/recommend/items", json={"items": shop_items()})
    assert reply.status_code == 200, reply.text
    events = shop_events()
    for start in range(0, len(events), 1000):
        body = {"events": events[start : start + 1000]}
        reply = await client.post("/v1/recommend/events", json=body)
        assert reply.json()["rejected"] == []
    return client
