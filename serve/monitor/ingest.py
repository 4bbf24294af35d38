"""Adding items: all of a request in one transaction, with what follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from serve.monitor.alerts import update_alerts
from serve.monitor.args import MonitorArgs
from serve.monitor.database import insert_new
from serve.monitor.item import Item
from serve.monitor.opinion import Opinion
from serve.monitor.tables import alerts, item_topics, items

__all__ = ["Reading", "add_items", "known_ids", "newest_time"]

_IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Reading:
    """An item and what the model made of it."""

    item: Item
    opinion: Opinion

    @property
    def topics(self) -> tuple[str, ...]:
        """What it counts for, each once."""
        return tuple(dict.fromkeys(self.item.topics)) or (self.opinion.topic,)


def known_ids(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of ``ids`` that are stored."""
    found: set[str] = set()
    for start in range(0, len(ids), _IDS_AT_ONCE):
        part = ids[start : start + _IDS_AT_ONCE]
        found.update(connection.scalars(select(items.c.id).where(items.c.id.in_(part))))
    return found


def newest_time(connection: Connection) -> int | None:
    """The latest time of any item."""
    newest: int | None = connection.scalar(select(func.max(items.c.time)))
    return newest


def add_items(
    connection: Connection, readings: Sequence[Reading], *, args: MonitorArgs, now_ms: int
) -> int:
    """Stores the items whose ids are new, and judges the buckets they fall into.

    Returns how many were new.
    """
    if not readings:
        return 0
    before = newest_time(connection)
    rows = [_row(reading, now_ms) for reading in readings]
    statement = insert_new(connection, items).returning(items.c.id)
    inserted = set(connection.scalars(statement, rows))
    new = [reading for reading in readings if reading.item.id in inserted]
    if not new:
        return 0
    connection.execute(insert_new(connection, item_topics), _topic_rows(new))
    bucket_ms = args.bucket_s * 1000
    newest = max(before or 0, *(reading.item.time for reading in new)) // bucket_ms
    changed: dict[str, int | None] = dict(_first_buckets(new, bucket_ms))
    if before is None or newest > before // bucket_ms:
        for topic in _topics_with_open_alerts(connection):
            changed.setdefault(topic, None)  # time has passed for them too
    for topic, bucket in changed.items():
        update_alerts(
            connection,
            topic,
            changed_bucket=bucket,
            newest_bucket=newest,
            args=args,
            notify_at_ms=now_ms,
        )
    return len(new)


def _row(reading: Reading, now_ms: int) -> dict[str, object]:
    item, opinion = reading.item, reading.opinion
    return {
        "id": item.id,
        "time": item.time,
        "text": item.text,
        "source": item.source,
        "topic": opinion.topic,
        "topic_score": opinion.topic_score,
        "label": opinion.label,
        "score": opinion.sentiment[opinion.label],
        "sentiment": opinion.sentiment,
        "received": now_ms,
    }


def _topic_rows(readings: Sequence[Reading]) -> list[dict[str, object]]:
    return [
        {
            "item": reading.item.id,
            "topic": topic,
            "time": reading.item.time,
            "label": reading.opinion.label,
        }
        for reading in readings
        for topic in reading.topics
    ]


def _first_buckets(readings: Sequence[Reading], bucket_ms: int) -> Mapping[str, int]:
    """The earliest bucket that got an item, by topic."""
    first: dict[str, int] = {}
    for reading in readings:
        bucket = reading.item.time // bucket_ms
        for topic in reading.topics:
            first[topic] = min(bucket, first.get(topic, bucket))
    return first


def _topics_with_open_alerts(connection: Connection) -> list[str]:
    query = select(alerts.c.topic).where(alerts.c.status == "active").distinct()
    return list(connection.scalars(query))
