"""What the monitor is asked: topics, windows, items and alerts."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, func, or_, select, tuple_
from sqlalchemy.engine import RowMapping

from serve.monitor.args import MonitorArgs
from serve.monitor.counts import num_labelled
from serve.monitor.cursor import encode_cursor
from serve.monitor.messages import read_alert
from serve.monitor.schema import (
    Alert,
    ItemPage,
    Polarity,
    StoredItem,
    TopicList,
    TopicSummary,
)
from serve.monitor.tables import alerts, item_topics, items
from serve.monitor.times import format_time

__all__ = ["ItemQuery", "list_alerts", "list_items", "list_topics"]


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """Which items are wanted."""

    limit: int
    topic: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    polarity: Polarity | None = None
    after: tuple[int, str] | None = None
    """Time and id of the last item of the page before."""


def list_topics(
    connection: Connection, *, since_ms: int | None, limit: int, args: MonitorArgs
) -> TopicList:
    """The topics that have items since then, those with most first."""
    table = item_topics.c
    num_items = func.count().label("num_items")
    query = (
        select(
            table.topic,
            num_items,
            num_labelled(args.negative).label("negative"),
            num_labelled(args.positive).label("positive"),
            func.max(table.time).label("last"),
        )
        .group_by(table.topic)
        .order_by(num_items.desc(), table.topic)
        .limit(limit)
    )
    if since_ms is not None:
        query = query.where(table.time >= since_ms)
    num_alerts = _num_alerts(connection, since_ms)
    return TopicList(
        topics=[
            TopicSummary(
                topic=row.topic,
                num_items=row.num_items,
                net_sentiment=(row.positive - row.negative) / row.num_items,
                num_alerts=num_alerts.get(row.topic, 0),
                last_time=format_time(row.last),
            )
            for row in connection.execute(query)
        ]
    )


def list_alerts(
    connection: Connection, *, topic: str | None, since_ms: int | None, limit: int
) -> list[Alert]:
    """The alerts that were up then or later, newest first."""
    query = select(alerts).where(_stands_since(since_ms))
    if topic is not None:
        query = query.where(alerts.c.topic == topic)
    query = query.order_by(alerts.c.start.desc(), alerts.c.topic).limit(limit)
    return [read_alert(row) for row in connection.execute(query).mappings()]


def list_items(connection: Connection, wanted: ItemQuery, *, args: MonitorArgs) -> ItemPage:
    """One page of items, newest first."""
    query = _filtered(wanted, args).limit(wanted.limit + 1)
    rows = list(connection.execute(query).mappings())
    shown = rows[: wanted.limit]
    topics = _topics_of(connection, [row["id"] for row in shown])
    has_more = len(rows) > len(shown)
    return ItemPage(
        items=[_stored_item(row, topics[row["id"]], args) for row in shown],
        next_cursor=encode_cursor(shown[-1]["time"], shown[-1]["id"]) if has_more else None,
    )


def _num_alerts(connection: Connection, since_ms: int | None) -> dict[str, int]:
    query = select(alerts.c.topic, func.count()).where(_stands_since(since_ms))
    return {row[0]: row[1] for row in connection.execute(query.group_by(alerts.c.topic))}


def _stands_since(since_ms: int | None) -> ColumnElement[bool]:
    stands = alerts.c.status != "withdrawn"
    if since_ms is None:
        return stands
    return stands & or_(alerts.c.end.is_(None), alerts.c.end > since_ms)


def _filtered(wanted: ItemQuery, args: MonitorArgs) -> Select[tuple[object, ...]]:
    query = select(items)
    time, identity, label = items.c.time, items.c.id, items.c.label
    if wanted.topic is not None:
        time, identity, label = item_topics.c.time, item_topics.c.item, item_topics.c.label
        query = query.join(item_topics, item_topics.c.item == items.c.id)
        query = query.where(item_topics.c.topic == wanted.topic)
    if wanted.since_ms is not None:
        query = query.where(time >= wanted.since_ms)
    if wanted.until_ms is not None:
        query = query.where(time < wanted.until_ms)
    if wanted.polarity == "negative":
        query = query.where(label.in_(args.negative))
    elif wanted.polarity == "positive":
        query = query.where(label.in_(args.positive))
    elif wanted.polarity == "neutral":
        query = query.where(label.not_in((*args.negative, *args.positive)))
    if wanted.after is not None:
        query = query.where(tuple_(time, identity) < tuple_(*wanted.after))
    return query.order_by(time.desc(), identity.desc())


def _topics_of(connection: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    query = select(item_topics.c.item, item_topics.c.topic).where(item_topics.c.item.in_(ids))
    topics: dict[str, list[str]] = {}
    for item, topic in connection.execute(query.order_by(item_topics.c.topic)):
        topics.setdefault(item, []).append(topic)
    return topics


def _stored_item(row: RowMapping, topics: list[str], args: MonitorArgs) -> StoredItem:
    return StoredItem(
        id=row["id"],
        time=format_time(row["time"]),
        text=row["text"],
        source=row["source"],
        topics=topics,
        topic=row["topic"],
        topic_score=row["topic_score"],
        label=row["label"],
        polarity=_polarity(row["label"], args),
        sentiment=row["sentiment"],
        received=format_time(row["received"]),
    )


def _polarity(label: str, args: MonitorArgs) -> Polarity:
    if label in args.negative:
        return "negative"
    return "positive" if label in args.positive else "neutral"
