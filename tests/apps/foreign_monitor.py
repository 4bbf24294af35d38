"""An opinion monitor in memory: it counts what was sent, and raises an alert where it turns bad."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, HTTPException

__all__ = ["ForeignMonitor", "monitor_routes"]

_DAY_S = 86_400
PARTS = ("negative", "neutral", "positive")


def sentiment_by_words(item: dict[str, Any]) -> str:
    """What a text says outright: the tests write good and bad into it."""
    text = item["text"].lower()
    return "negative" if "bad" in text else "positive" if "good" in text else "neutral"


@dataclass
class ForeignMonitor:
    """Every item by id, and the alerts that somebody has seen."""

    sentiment: Callable[[dict[str, Any]], str] = sentiment_by_words
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    num_posts: int = 0
    busy_for: int = 0
    """Posts that are refused before one is taken."""

    def add(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        receipt: dict[str, Any] = {"accepted": 0, "duplicates": 0, "rejected": []}
        for line, item in enumerate(items, start=1):
            if item["id"] in self.items:
                receipt["duplicates"] += 1
            elif "refuse" in item["text"]:
                reason = "text: cannot be read."
                receipt["rejected"].append({"line": line, "id": item["id"], "reason": reason})
            else:
                label = self.sentiment(item)
                shares = {part: 0.86 if part == label else 0.07 for part in PARTS}
                topics = item.get("topics") or ["other"]
                read = {"source": "", "topics": topics, "sentiment": shares, "polarity": label}
                self.items[item["id"]] = read | item | {"topics": topics}
                receipt["accepted"] += 1
        return receipt

    def of(self, topic: str | None) -> list[dict[str, Any]]:
        """The newest first."""
        chosen = [i for i in self.items.values() if topic is None or topic in i["topics"]]
        return sorted(chosen, key=lambda item: (_seconds(item["time"]), item["id"]), reverse=True)

    def topics(self) -> list[dict[str, Any]]:
        counts: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for item in self.of(None):
            for topic in item["topics"]:
                counts[topic].append(item)
        alerts = self.alerts()
        return [
            {
                "topic": topic,
                "num_items": len(items),
                "net_sentiment": _net(items),
                "num_alerts": sum(alert["topic"] == topic for alert in alerts),
                "last_time": _iso(_seconds(items[0]["time"])),
            }
            for topic, items in sorted(counts.items(), key=lambda pair: (-len(pair[1]), pair[0]))
        ]

    def windows(self, topic: str, bucket_s: int, since: float | None) -> list[dict[str, Any]]:
        buckets: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for item in self.of(topic):
            buckets[int(_seconds(item["time"]) // bucket_s)].append(item)
        first = min(buckets) if since is None else max(min(buckets), int(since // bucket_s))
        return [
            _window(bucket * bucket_s, buckets.get(bucket, []))
            for bucket in range(first, max(buckets) + 1)
        ]

    def alerts(self) -> list[dict[str, Any]]:
        """Days with at least eight items, most of them negative; neighbours are one alert."""
        found: list[dict[str, Any]] = []
        for topic in sorted({topic for item in self.items.values() for topic in item["topics"]}):
            for window in self.windows(topic, _DAY_S, None):
                if window["count"] < 8 or window["negative"] / window["count"] < 0.7:
                    continue
                start = _seconds(window["start"])
                if found and found[-1]["topic"] == topic and _seconds(found[-1]["end"]) == start:
                    found[-1]["end"] = _iso(start + _DAY_S)
                    continue
                found.append(self._alert(topic, start, window))
        return found

    def _alert(self, topic: str, start: float, window: dict[str, Any]) -> dict[str, Any]:
        identity = f"{topic}/{start:.0f}"
        return {
            "id": identity,
            "topic": topic,
            "start": window["start"],
            "end": _iso(start + _DAY_S),
            "kind": "negative_surge",
            "severity": "high" if window["count"] > 11 else "medium",
            "count": window["count"],
            "negative": window["negative"],
            "expected_share": 0.28,
            "share": window["negative"] / window["count"],
            "score": 11.0,
            "evidence": [],
            "acknowledged": identity in self.acknowledged,
        }


def monitor_routes(monitor: ForeignMonitor) -> APIRouter:
    router = APIRouter(prefix="/v1/monitor")

    @router.post("/items")
    async def add(body: dict[str, Any]) -> dict[str, Any]:
        monitor.num_posts += 1
        if monitor.busy_for:
            monitor.busy_for -= 1
            raise HTTPException(429, "the queue is full.", headers={"retry-after": "0.01"})
        return monitor.add(body["items"])

    @router.get("/topics")
    async def topics() -> dict[str, Any]:
        return {"topics": monitor.topics()}

    @router.get("/windows")
    async def windows(topic: str, bucket_s: int, since: str | None = None) -> dict[str, Any]:
        seconds = None if since is None else _seconds(since)
        shown = monitor.windows(topic, bucket_s, seconds)
        return {"topic": topic, "bucket_s": bucket_s, "windows": shown}

    @router.get("/items")
    async def items(
        topic: str,
        since: str | None = None,
        until: str | None = None,
        sentiment: str | None = None,
        limit: int = 50,
        cursor: int = 0,
    ) -> dict[str, Any]:
        chosen = [
            item
            for item in monitor.of(topic)
            if (since is None or _seconds(item["time"]) >= _seconds(since))
            and (until is None or _seconds(item["time"]) < _seconds(until))
            and (sentiment is None or item["polarity"] == sentiment)
        ]
        end = cursor + limit
        following = str(end) if end < len(chosen) else None
        return {"items": chosen[cursor:end], "next_cursor": following}

    @router.get("/alerts")
    async def alerts() -> dict[str, Any]:
        return {"alerts": monitor.alerts()}

    @router.post("/alerts/{alert:path}/acknowledge")
    async def acknowledge(alert: str) -> dict[str, Any]:
        found = [one for one in monitor.alerts() if one["id"] == alert]
        if not found:
            raise HTTPException(404, f"alert '{alert}' does not exist.")
        monitor.acknowledged.add(alert)
        return found[0] | {"acknowledged": True}

    return router


def _window(start: float, items: list[dict[str, Any]]) -> dict[str, Any]:
    counts = {part: sum(item["polarity"] == part for item in items) for part in PARTS}
    net = _net(items) if items else None
    half = None if net is None else 1.2 / (len(items) + 1) ** 0.5
    return {
        "start": _iso(start),
        "count": len(items),
        **counts,
        "net_sentiment": net,
        "low": None if net is None or half is None else max(net - half, -1.0),
        "high": None if net is None or half is None else min(net + half, 1.0),
        "alert": None,
    }


def _net(items: list[dict[str, Any]]) -> float:
    signs = {"positive": 1, "negative": -1}
    return sum(signs.get(item["polarity"], 0) for item in items) / len(items)


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
