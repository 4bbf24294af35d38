"""Years of posts into a running monitor that is killed on the way. Minutes: `make test-slow`."""

import json
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from tests.e2e.real_data import DATA, KEY, needs_data, run, start_service

pytestmark = [pytest.mark.slow, pytest.mark.ray, needs_data]

PORT = 8124
AT_ONCE = 200
SPEED = 1000
"""Seconds of the posts in one of ours, in the part that is played to its clock."""


def kill(process: psutil.Process) -> None:
    """SIGKILL to a process and to everything that it started."""
    family = [process, *process.children(recursive=True)]
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=20)


def read_posts() -> list[dict[str, Any]]:
    """Items in the order of time, each once."""
    posts: dict[str, dict[str, Any]] = {}
    with (DATA / "stocknet" / "tweets_by_time.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            if row["text"].strip():
                posts[str(row["id"])] = {
                    "id": str(row["id"]),
                    "time": row["ts"],
                    "text": row["text"],
                    "topics": row["tickers"],
                }
    return list(posts.values())


class Sender:
    """Sends items until they are acknowledged, whatever happens to the service."""

    def __init__(self) -> None:
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{PORT}",
            headers={"authorization": f"Bearer {KEY}"},
            trust_env=False,
            timeout=60,
        )
        self.counted: Counter[str] = Counter()

    def send(self, items: list[dict[str, Any]]) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                reply = self.client.post("/v1/monitor/items", json={"items": items})
                if reply.is_success:
                    break
                assert reply.status_code in (429, 500, 502, 503, 504), reply.text
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "the service did not come back"
            time.sleep(0.2)
        tree = reply.json()
        assert not tree["rejected"], tree["rejected"][:3]
        self.counted.update(accepted=tree["accepted"], duplicates=tree["duplicates"])

    def get(self, path: str, **params: Any) -> Any:
        reply = self.client.get(f"/v1/monitor{path}", params=params)
        reply.raise_for_status()
        return reply.json()


def play(sender: Sender, items: list[dict[str, Any]], *, seconds: float) -> int:
    """Plays items to their clock, so many seconds of ours; how many were sent."""
    began, first = time.monotonic(), items[0]["time"]
    sent = 0
    while (passed := time.monotonic() - began) < seconds:
        due = sent
        while due < len(items) and _seconds(items[due]["time"], first) <= passed * SPEED:
            due += 1
        if due > sent:
            sender.send(items[sent:due])
            sent = due
        time.sleep(0.2)
    return sent


def _seconds(time_: str, first: str) -> float:
    return (datetime.fromisoformat(time_) - datetime.fromisoformat(first)).total_seconds()


@pytest.mark.timeout(2400)
def test_every_post_is_counted_once_though_the_service_is_killed(tmp_path: Path):
    run("market_opinion", "train.epochs=1", cwd=tmp_path, timeout=900)
    config = tmp_path / "service.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "bundles": {"market_opinion": "runs/market_opinion/bundles/int8"},
                "num_cpus": 1,
                "monitor": {
                    "model": "market_opinion",
                    "database": f"sqlite:///{tmp_path}/monitor.db",
                    "bucket_s": 86_400,
                },
            }
        )
    )
    posts = read_posts()
    sender = Sender()
    process = start_service("--config", str(config), port=PORT, folder=tmp_path)
    try:
        num_played = play(sender, posts, seconds=60)
        print(f"\nplayed at {SPEED} times their speed: {num_played} posts in 60 s")
        rest = posts[num_played:]
        half = len(rest) // 2 // AT_ONCE * AT_ONCE
        began = time.monotonic()
        for start in range(0, half, AT_ONCE):
            sender.send(rest[start : start + AT_ONCE])
        first_seconds = time.monotonic() - began
        # killed with a request on its way: whether it was stored, only its sender's retry tells
        in_flight = httpx.Client(trust_env=False, timeout=0.05)
        with pytest.raises(httpx.TransportError):
            in_flight.post(
                f"http://127.0.0.1:{PORT}/v1/monitor/items",
                json={"items": rest[half : half + AT_ONCE]},
                headers={"authorization": f"Bearer {KEY}"},
            )
        kill(psutil.Process(process.pid))
        process.wait(timeout=20)
        process = start_service("--config", str(config), port=PORT, folder=tmp_path)
        began = time.monotonic()
        for start in range(half, len(rest), AT_ONCE):
            sender.send(rest[start : start + AT_ONCE])
        second_seconds = time.monotonic() - began
        # what a client does that does not know how far it came: the last ones again
        sender.send(posts[-AT_ONCE:])
        rate = len(rest) / (first_seconds + second_seconds)
        print(f"{len(posts)} posts; {rate:.0f} items/s with the model; {dict(sender.counted)}")
        _check_counts(sender, posts)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=60)


def _check_counts(sender: Sender, posts: list[dict[str, Any]]) -> None:
    expected: Counter[str] = Counter(topic for post in posts for topic in set(post["topics"]))
    topics = {row["topic"]: row for row in sender.get("/topics")["topics"]}
    assert {topic: row["num_items"] for topic, row in topics.items()} == dict(expected)
    busiest = expected.most_common(1)[0][0]
    days = Counter(
        datetime.fromisoformat(post["time"]).astimezone(UTC).date().isoformat()
        for post in posts
        if busiest in post["topics"]
    )
    windows = sender.get("/windows", topic=busiest, since=posts[0]["time"])["windows"]
    counted = {row["start"][:10]: row["count"] for row in windows if row["count"]}
    assert counted == dict(days)
    alerts = sender.get("/alerts")
    print(f"{len(alerts)} alerts; {busiest}: {topics[busiest]['num_items']} items")
    marked = [row for row in windows if row["alert"]]
    assert len({row["alert"] for row in marked}) == topics[busiest]["num_alerts"]
