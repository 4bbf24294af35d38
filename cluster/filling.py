"""The samples for a service's applications: knowledge, news, and a shop with its customers."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray_sft.samples
from cluster.questions import Answer, Question, ask, client_for

__all__ = ["fill_applications"]

_SAMPLES = Path(ray_sft.samples.__file__).parent
_AT_ONCE = 500
_NEWS_UNTIL = "2025-04-02"
"""The first half; the other one is left to the page's replay."""


def fill_applications(service_url: str, *, api_key: str) -> list[Answer]:
    """Sends the samples, and lets the ranker learn from the customers' events.

    What the service knows already changes nothing, so that it may be done again.

    Raises:
        ServeError: an endpoint refuses, or answers in another shape.
    """
    with client_for(service_url, api_key) as client:
        return [ask(client, question) for question in _questions()]


def _questions() -> Iterator[Question]:
    documents = [_document(json.loads(line)) for line in _lines("support_answers.jsonl")]
    yield Question(
        "PUT",
        "/v1/assistant/knowledge",
        lambda tree: f"{tree['added']} added, {tree['unchanged']} known",
        {"documents": documents},
        f"{len(documents)} approved answers",
    )
    news = [row for name in ("train", "test") for row in _rows(f"market_{name}.csv")]
    items = [_item(row) for row in news if row["time"] < _NEWS_UNTIL]
    for part in _parts(items):
        yield Question("POST", "/v1/monitor/items", _taken, {"items": part}, f"{len(part)} items")
    goods = [_good(row) for row in _rows("items.csv")]
    yield Question(
        "PUT",
        "/v1/recommend/items",
        lambda tree: f"{tree['added']} added, {tree['unchanged']} known",
        {"items": goods},
        f"{len(goods)} items",
    )
    events = [_event(number, row) for number, row in enumerate(_rows("interactions.csv"))]
    for part in _parts(events):
        yield Question(
            "POST", "/v1/recommend/events", _taken, {"events": part}, f"{len(part)} events"
        )
    yield Question("POST", "/v1/recommend/train", _trained)


def _document(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "kind": "approved",
        "title": row["question"],
        "text": row["answer"],
        "language": row["language"],
    }


def _item(row: dict[str, str]) -> dict[str, Any]:
    topics = [row["topic"]] if row["topic"] else []
    return {"id": row["id"], "time": row["time"], "text": row["text"], "topics": topics}


def _good(row: dict[str, str]) -> dict[str, Any]:
    return {
        "id": row["item_id"],
        "title": row["title"],
        "text": row["description"],
        "category": row["category"],
    }


def _event(number: int, row: dict[str, str]) -> dict[str, Any]:
    return {
        "id": f"event-{number}",
        "user": row["user_id"],
        "item": row["item_id"],
        "kind": "click" if row["event"] == "view" else row["event"],
        "time": row["time"],
    }


def _taken(tree: Any) -> str:
    rejected = f", {len(tree['rejected'])} rejected" if tree["rejected"] else ""
    return f"{tree['accepted']} taken, {tree['duplicates']} known{rejected}"


def _trained(tree: Any) -> str:
    if tree["reason"]:
        return f"{tree['ranker']}: {tree['reason']}"
    return f"{tree['ranker']}, from {tree['num_queries']} queries in {tree['seconds']:.0f} s"


def _parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE))


def _lines(name: str) -> list[str]:
    return (_SAMPLES / name).read_text(encoding="utf-8").splitlines()


def _rows(name: str) -> list[dict[str, str]]:
    with (_SAMPLES / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
