"""Counting items in buckets of time: SQL over the items themselves, never a counter."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, case, func, select

from serve.monitor.args import MonitorArgs
from serve.monitor.baseline import Counts
from serve.monitor.tables import item_topics

__all__ = ["count_buckets", "num_labelled"]


def num_labelled(labels: Sequence[str]) -> ColumnElement[int]:
    """How many rows of `item_topics` have one of ``labels``."""
    return func.sum(case((item_topics.c.label.in_(labels), 1), else_=0))


def count_buckets(
    connection: Connection,
    topic: str,
    *,
    args: MonitorArgs,
    bucket_ms: int,
    since_ms: int,
    until_ms: int | None = None,
) -> list[Counts]:
    """The buckets that have items from ``since_ms`` to before ``until_ms``, in order of time."""
    bucket = (item_topics.c.time // bucket_ms).label("bucket")
    query = (
        select(
            bucket,
            func.count(),
            num_labelled(args.negative),
            num_labelled(args.positive),
        )
        .where(item_topics.c.topic == topic, item_topics.c.time >= since_ms)
        .group_by("bucket")
        .order_by("bucket")
    )
    if until_ms is not None:
        query = query.where(item_topics.c.time < until_ms)
    return [Counts(*(int(figure) for figure in row)) for row in connection.execute(query)]
