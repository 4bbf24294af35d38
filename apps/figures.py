"""What the service tells for one desk of the opinion monitor."""

import asyncio
from dataclasses import dataclass

from apps.client.monitor import AsyncMonitorClient
from apps.desk import Desk
from apps.replies.monitor import Alert, Items, Topic, Windows

__all__ = ["Figures", "fetch_figures", "fetch_items"]


@dataclass(frozen=True, slots=True)
class Figures:
    """What the service told at one moment."""

    topics: list[Topic]
    alerts: list[Alert]
    topic: Topic | None = None
    """The one that is looked at, to which the rest belongs; None where there is none."""
    windows: Windows | None = None
    items: Items | None = None


async def fetch_figures(monitor: AsyncMonitorClient, desk: Desk) -> Figures | None:
    """Everything that is shown; None where nothing has changed since it was drawn.

    Raises:
        ServiceError: the service is away or refuses.
    """
    topics, alerts = await asyncio.gather(monitor.topics(), monitor.alerts())
    if desk.drawn == (topics, alerts):
        return None
    topic = desk.chosen(topics)
    if topic is None:
        return Figures(topics, alerts)
    since = desk.chart_start(topic.last_time)
    windows, items = await asyncio.gather(
        monitor.windows(topic.topic, bucket_s=desk.bucket_s, since=since),
        _items(monitor, desk, topic.topic, cursor=None),
    )
    return Figures(topics, alerts, topic, windows, items)


async def fetch_items(monitor: AsyncMonitorClient, desk: Desk) -> Items:
    """The items after those that are shown.

    Raises:
        ServiceError: the service is away or refuses.
    """
    return await _items(monitor, desk, desk.topic, cursor=desk.cursor)


async def _items(
    monitor: AsyncMonitorClient, desk: Desk, topic: str, *, cursor: str | None
) -> Items:
    return await monitor.items(
        topic,
        since=desk.span.start if desk.span else None,
        until=desk.span.end if desk.span else None,
        sentiment=desk.sentiment or None,
        cursor=cursor,
    )
