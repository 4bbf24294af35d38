"""Asking the recommender: rankings for a user, and what the user made of them."""

from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from apps.client.call import Call, Reply, get, offered, parsed, path_part, picked, post
from apps.client.endpoint import AsyncPart, Part, endpoint
from apps.client.errors import ServiceError
from apps.replies.recommend import History, PastEvent, Ranking, Told, User, Users

__all__ = ["AsyncRecommendClient", "EventKind", "RecommendClient"]

EventKind = Literal["like", "hide"]


class RecommendCalls:
    """The routes under ``/v1/recommend``."""

    @endpoint
    def is_offered(self) -> Call[bool]:
        """Whether the service has these routes.

        Raises:
            ServiceError: the service is away.
        """
        return get("/v1/recommend/users", offered, is_retried=False, limit=1)

    @endpoint
    def users(self, *, limit: int) -> Call[list[User]]:
        """Users whose events are known.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return get("/v1/recommend/users", picked(Users, lambda reply: reply.users), limit=limit)

    @endpoint
    def history(self, user: str, *, limit: int) -> Call[list[PastEvent] | None]:
        """What ``user`` did, the latest first; None where the service does not tell.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return get(f"/v1/recommend/users/{path_part(user)}/events", _past, limit=limit)

    @endpoint
    def rank(self, user: str, *, top_k: int, diversity: float) -> Call[Ranking]:
        """The items for ``user``, the best first, with reasons.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return post(
            "/v1/recommend/rank",
            parsed(Ranking),
            user=user,
            top_k=top_k,
            diversity=diversity,
            explain=True,
        )

    @endpoint
    def tell(
        self, user: str, item: str, kind: EventKind, *, ranking_id: str, position: int
    ) -> Call[None]:
        """Says what ``user`` made of an item that a ranking showed at ``position``, from 0.

        Raises:
            ServiceError: the service is away or refuses, such as for an item that is gone.
        """
        event = {
            "id": uuid4().hex,  # the same in every attempt, so that it is kept once
            "user": user,
            "item": item,
            "kind": kind,
            "time": datetime.now(UTC).isoformat(),
            "ranking_id": ranking_id,
            "position": position,
        }
        return post("/v1/recommend/events", _told, events=[event])


class RecommendClient(Part, RecommendCalls):
    """Asks and waits."""


class AsyncRecommendClient(AsyncPart, RecommendCalls):
    """Asks and is awaited."""


def _past(reply: Reply) -> list[PastEvent] | None:
    return None if reply.status in (404, 405) else reply.parse(History).events


def _told(reply: Reply) -> None:
    rejected = reply.parse(Told).rejected
    if rejected:
        raise ServiceError(
            rejected[0].reason,
            status=reply.status,
            code="event_rejected",
            request_id=reply.request_id,
        )
