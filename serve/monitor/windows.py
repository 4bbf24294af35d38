"""The windows of a topic for a chart: every bucket of a span, those without items included."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from ray_sft.core import ServeError
from serve.monitor.args import MonitorArgs
from serve.monitor.baseline import Counts
from serve.monitor.counts import count_buckets
from serve.monitor.distributions import net_sentiment_band
from serve.monitor.schema import Window, WindowList
from serve.monitor.tables import alerts, item_topics
from serve.monitor.times import format_time

__all__ = ["MAX_WINDOWS", "SpanError", "UnknownTopicError", "list_windows"]

MAX_WINDOWS = 2000
_USUAL_WINDOWS = 168


class SpanError(ServeError):
    """The span that was asked for is empty or has too many windows."""


class UnknownTopicError(ServeError):
    """No item counts for the topic."""


@dataclass(frozen=True, slots=True)
class _Alert:
    id: str
    start_ms: int
    end_ms: int | None

    def covers(self, start_ms: int, end_ms: int) -> bool:
        return self.start_ms < end_ms and (self.end_ms is None or self.end_ms > start_ms)


def list_windows(
    connection: Connection,
    topic: str,
    *,
    bucket_s: int,
    since_ms: int | None,
    until_ms: int | None,
    args: MonitorArgs,
) -> WindowList:
    """The buckets that the span touches, whole; without bounds the last 168 up to the newest.

    Raises:
        SpanError: no or more than `MAX_WINDOWS` buckets.
        UnknownTopicError: the topic has no item.
    """
    bucket_ms = bucket_s * 1000
    first, last = _span(connection, topic, bucket_ms, since_ms, until_ms)
    counts = count_buckets(
        connection,
        topic,
        args=args,
        bucket_ms=bucket_ms,
        since_ms=first * bucket_ms,
        until_ms=last * bucket_ms,
    )
    by_bucket = {item.bucket: item for item in counts}
    raised = _alerts(connection, topic, since_ms=first * bucket_ms, until_ms=last * bucket_ms)
    return WindowList(
        topic=topic,
        bucket_s=bucket_s,
        windows=[
            _window(by_bucket.get(bucket, Counts(bucket, 0, 0)), bucket_ms, raised)
            for bucket in range(first, last)
        ],
    )


def _span(
    connection: Connection, topic: str, bucket_ms: int, since_ms: int | None, until_ms: int | None
) -> tuple[int, int]:
    """First bucket and the one after the last."""
    time = item_topics.c.time
    query = select(func.min(time), func.max(time)).where(item_topics.c.topic == topic)
    oldest, newest = connection.execute(query).one()
    if newest is None:
        raise UnknownTopicError(f"topic '{topic}' has no item. /v1/monitor/topics lists those.")
    last = newest // bucket_ms + 1 if until_ms is None else -(-until_ms // bucket_ms)
    usual = max(oldest // bucket_ms, last - _USUAL_WINDOWS)
    first = min(usual, last - 1) if since_ms is None else since_ms // bucket_ms
    if not 0 < last - first <= MAX_WINDOWS:
        raise SpanError(
            f"the span has {max(0, last - first)} windows of {bucket_ms // 1000} s; from 1 to "
            f"{MAX_WINDOWS} are given. Change since, until or bucket_s."
        )
    return first, last


def _alerts(
    connection: Connection, topic: str, *, since_ms: int, until_ms: int
) -> Sequence[_Alert]:
    table = alerts.c
    query = select(table.id, table.start, table.end).where(
        table.topic == topic,
        table.status != "withdrawn",
        table.start < until_ms,
        or_(table.end.is_(None), table.end > since_ms),
    )
    return [_Alert(*row) for row in connection.execute(query.order_by(table.start))]


def _window(counts: Counts, bucket_ms: int, raised: Sequence[_Alert]) -> Window:
    start_ms = counts.bucket * bucket_ms
    covering = [item.id for item in raised if item.covers(start_ms, start_ms + bucket_ms)]
    neutral = counts.count - counts.negative - counts.positive
    net = low = high = None
    if counts.count:
        net = (counts.positive - counts.negative) / counts.count
        low, high = net_sentiment_band(
            positive=counts.positive, neutral=neutral, negative=counts.negative
        )
    return Window(
        start=format_time(start_ms),
        count=counts.count,
        negative=counts.negative,
        neutral=neutral,
        positive=counts.positive,
        net_sentiment=net,
        low=low,
        high=high,
        alert=covering[0] if covering else None,
    )
