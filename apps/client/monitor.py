"""Asking the opinion monitor: sending items, reading windows of time and alerts."""

from collections.abc import Sequence
from datetime import datetime

from apps.client.transport import Transport, path_part
from apps.replies.models import Nothing
from apps.replies.monitor import Alert, Alerts, Items, Posted, Topic, Topics, Windows

__all__ = ["MonitorClient"]


class MonitorClient:
    """The routes under ``/v1/monitor``; times are sent and read in UTC."""

    def __init__(self, transport: Transport) -> None:
        """Asks through ``transport``."""
        self._transport = transport

    async def is_offered(self) -> bool:
        """Whether the service has these routes.

        Raises:
            ServiceError: the service is away.
        """
        return await self._transport.status("/v1/monitor/topics") != 404

    async def post(self, items: Sequence[dict[str, object]]) -> Posted:
        """Sends items; the service says how many it took.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return await self._transport.post(Posted, "/v1/monitor/items", body={"items": items})

    async def topics(self) -> list[Topic]:
        """Every topic with its figures.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return (await self._transport.get(Topics, "/v1/monitor/topics")).topics

    async def windows(self, topic: str, *, bucket_s: int, since: datetime | None = None) -> Windows:
        """The windows of a topic from ``since`` on, each ``bucket_s`` long.

        Raises:
            ServiceError: the service is away or refuses.
        """
        params = {"topic": topic, "bucket_s": bucket_s, "since": _iso(since)}
        return await self._transport.get(Windows, "/v1/monitor/windows", params=params)

    async def items(
        self,
        topic: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        sentiment: str | None = None,
        limit: int = 10,
        cursor: str | None = None,
    ) -> Items:
        """Items of a topic between two times, one page of them.

        Raises:
            ServiceError: the service is away or refuses.
        """
        params = {
            "topic": topic,
            "since": _iso(since),
            "until": _iso(until),
            "sentiment": sentiment,
            "limit": limit,
            "cursor": cursor,
        }
        return await self._transport.get(Items, "/v1/monitor/items", params=params)

    async def alerts(self, *, topic: str | None = None) -> list[Alert]:
        """The alerts of one topic, or of all.

        Raises:
            ServiceError: the service is away or refuses.
        """
        params = {"topic": topic}
        return (await self._transport.get(Alerts, "/v1/monitor/alerts", params=params)).alerts

    async def acknowledge(self, alert_id: str) -> None:
        """Marks an alert as seen by somebody.

        Raises:
            ServiceError: there is none of this id, or the service is away or refuses.
        """
        path = f"/v1/monitor/alerts/{path_part(alert_id)}/acknowledge"
        await self._transport.post(Nothing, path, body={})


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
