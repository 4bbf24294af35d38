"""Asking the recommender: rankings for a user, and what the user made of them."""

from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from apps.client.transport import ServiceError, Transport, path_part
from apps.replies.recommend import History, PastEvent, Ranking, Told, User, Users

__all__ = ["EventKind", "RecommendClient"]

EventKind = Literal["like", "hide"]


class RecommendClient:
    """The routes under ``/v1/recommend``."""

    def __init__(self, transport: Transport) -> None:
        """Asks through ``transport``."""
        self._transport = transport

    async def is_offered(self) -> bool:
        """Whether the service has these routes.

        Raises:
            ServiceError: the service is away.
        """
        return await self._transport.status("/v1/recommend/users?limit=1") != 404

    async def users(self, *, limit: int) -> list[User]:
        """Users whose events are known.

        Raises:
            ServiceError: the service is away or refuses.
        """
        params = {"limit": limit}
        return (await self._transport.get(Users, "/v1/recommend/users", params=params)).users

    async def history(self, user: str, *, limit: int) -> list[PastEvent] | None:
        """What ``user`` did, the latest first; None where the service does not tell.

        Raises:
            ServiceError: the service is away or refuses.
        """
        path = f"/v1/recommend/users/{path_part(user)}/events"
        try:
            return (await self._transport.get(History, path, params={"limit": limit})).events
        except ServiceError as error:
            if error.status in (404, 405):
                return None
            raise

    async def rank(self, user: str, *, top_k: int, diversity: float) -> Ranking:
        """The items for ``user``, the best first, with reasons.

        Raises:
            ServiceError: the service is away or refuses.
        """
        body = {"user": user, "top_k": top_k, "diversity": diversity, "explain": True}
        return await self._transport.post(Ranking, "/v1/recommend/rank", body=body)

    async def tell(
        self, user: str, item: str, kind: EventKind, *, ranking_id: str, position: int
    ) -> None:
        """Says what ``user`` made of an item that a ranking showed at ``position``, from 0.

        Raises:
            ServiceError: the service is away or refuses, such as for an item that is gone.
        """
        event = {
            "id": uuid4().hex,
            "user": user,
            "item": item,
            "kind": kind,
            "time": datetime.now(UTC).isoformat(),
            "ranking_id": ranking_id,
            "position": position,
        }
        body = {"events": [event]}
        told = await self._transport.post(Told, "/v1/recommend/events", body=body)
        if told.rejected:
            raise ServiceError(told.rejected[0].reason, status=200)
