"""A monitor killed while it takes in items: nothing acknowledged is lost or counted twice."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from serve.monitor import MonitorArgs
from serve.monitor.item import Item
from serve.monitor.monitor import Monitor
from serve.monitor.queries import ItemQuery
from serve.monitor.schema import Alert, WindowList
from serve.monitor.store import Store

from .feeds import HOUR, calm, hour, read, shuffled
from .words import read_words

FEED = shuffled(
    [
        *calm("chips", range(12)),
        *hour("chips", 12, count=30, negative=26),
        *calm("chips", range(13, 18)),
        *calm("rail", range(18)),
    ],
    5,
)
KILLED_AFTER = (1, 4, 8, 13, 19, 26, 34, 43)
"""Requests acknowledged before each kill; each start sends everything again from the first."""


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    program = Path(__file__).with_name("ingesting.py")
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()
        assert started.wait(timeout=20) == 0


def ingest_until_killed(
    process: subprocess.Popen[str], args: MonitorArgs, path: Path, num_requests: int
) -> set[str]:
    """Ids that were acknowledged before the kill."""
    assert process.stdin is not None
    assert process.stdout is not None
    order = {"args": args.model_dump(mode="json"), "path": str(path)}
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()
    pid = heard(process.stdout)["pid"]
    acknowledged: set[str] = set()
    for _ in range(num_requests):
        acknowledged.update(heard(process.stdout)["ids"])
    os.kill(pid, signal.SIGKILL)
    while "status" not in (said := heard(process.stdout)):
        acknowledged.update(said["ids"])
    assert said["status"] == signal.SIGKILL
    return acknowledged


def heard(stream: IO[str]) -> dict:
    line = stream.readline()
    assert line, "the process ended"
    return json.loads(line)


def seen(store: Store) -> tuple[list[Alert], list[WindowList]]:
    """All that a client is told of counts."""
    topics = [one.topic for one in store.topics(since_ms=None, limit=10).topics]
    windows = [
        store.windows(topic, bucket_s=HOUR, since_ms=None, until_ms=None)
        for topic in sorted(topics)
    ]
    return store.alerts(topic=None, since_ms=None, limit=10), windows


def seen_in_one(items: list[Item], args: MonitorArgs, folder: Path) -> object:
    """The same, had the items come all at once."""
    store = Store(args.model_copy(update={"database": f"sqlite:///{folder}/in-one.db"}))
    store.prepare()
    store.add(read(items), now_ms=0)
    found = seen(store)
    store.close()
    return found


def test_what_was_acknowledged_is_counted_once(
    process: subprocess.Popen[str], args: MonitorArgs, tmp_path: Path
) -> None:
    path = tmp_path / "items.jsonl"
    lines = [json.dumps({"id": one.id, "time": one.time / 1000, "text": one.text}) for one in FEED]
    path.write_text("\n".join(lines))
    acknowledged: set[str] = set()
    for num_requests in KILLED_AFTER:
        acknowledged |= ingest_until_killed(process, args, path, num_requests)
    assert 0 < len(acknowledged) < len(FEED)
    store = Store(args)
    stored = [one.id for one in store.items(ItemQuery(limit=1000)).items]
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored))
    kept = [one for one in FEED if one.id in set(stored)]
    (tmp_path / "kept").mkdir()
    assert seen(store) == seen_in_one(kept, args, tmp_path / "kept")
    store.close()

    async def send_again() -> tuple[int, int]:
        monitor = Monitor(read_words, Store(args), args)
        await monitor.open()
        receipt = await monitor.add(list(enumerate(FEED, start=1)))
        await monitor.close()
        return receipt.accepted, receipt.duplicates

    assert asyncio.run(send_again()) == (len(FEED) - len(stored), len(stored))
    store = Store(args)
    assert seen(store) == seen_in_one(FEED, args, tmp_path)
    assert len(seen(store)[0]) == 1
    store.close()
