"""Asking the opinion monitor: sending items, reading windows of time and alerts."""

from collections.abc import Sequence
from datetime import datetime

from apps.client.call import Call, get, nothing, offered, parsed, path_part, picked, post
from apps.client.endpoint import AsyncPart, Part, endpoint
from apps.replies.monitor import Alert, Alerts, Items, Posted, Topic, Topics, Windows

__all__ = ["AsyncMonitorClient", "MonitorClient"]


class MonitorCalls:
    """The routes under ``/v1/monitor``; times are sent and read in UTC."""

    @endpoint
    def is_offered(self) -> Call[bool]:
        """Whether the service has these routes.

        Raises:
            ServiceError: the service is away.
        """
        return get("/v1/monitor/topics", offered, is_retried=False)

    @endpoint
    def post(self, items: Sequence[dict[str, object]]) -> Call[Posted]:
        """Sends items; the service says how many it took, and knows those that come again.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return post("/v1/monitor/items", parsed(Posted), items=list(items))

    @endpoint
    def topics(self) -> Call[list[Topic]]:
        """Every topic with its figures.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return get("/v1/monitor/topics", picked(Topics, lambda reply: reply.topics))

    @endpoint
    def windows(self, topic: str, *, bucket_s: int, since: datetime | None = None) -> Call[Windows]:
        """The windows of a topic from ``since`` on, each ``bucket_s`` long.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return get(
            "/v1/monitor/windows",
            parsed(Windows),
            topic=topic,
            bucket_s=bucket_s,
            since=_iso(since),
        )

    @endpoint
    def items(
        self,
        topic: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        sentiment: str | None = None,
        limit: int = 10,
        cursor: str | None = None,
    ) -> Call[Items]:
        """Items of a topic between two times, one page of them.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return get(
            "/v1/monitor/items",
            parsed(Items),
            topic=topic,
            since=_iso(since),
            until=_iso(until),
            sentiment=sentiment,
            limit=limit,
            cursor=cursor,
        )

    @endpoint
    def alerts(self, *, topic: str | None = None) -> Call[list[Alert]]:
        """The alerts of one topic, or of all.

        Raises:
            ServiceError: the service is away or refuses.
        """
        read = picked(Alerts, lambda reply: reply.alerts)
        return get("/v1/monitor/alerts", read, topic=topic)

    @endpoint
    def acknowledge(self, alert_id: str) -> Call[None]:
        """Marks an alert as seen by somebody; again and again is the same as once.

        Raises:
            ServiceError: there is none of this id, or the service is away or refuses.
        """
        return post(f"/v1/monitor/alerts/{path_part(alert_id)}/acknowledge", nothing)


class MonitorClient(Part, MonitorCalls):
    """Asks and waits."""


class AsyncMonitorClient(AsyncPart, MonitorCalls):
    """Asks and is awaited."""


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
