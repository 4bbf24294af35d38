"""`/v1/recommend/...`: items and events in; rankings with their reasons out."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ValidationError

from ray_sft.core import ServeError
from serve.endpoints.schema import request_body
from serve.errors import ApiError, explain_validation
from serve.outcomes import QueueFullError, RefusedError, StoppedError
from serve.recommend.recommender import Recommender
from serve.recommend.requests import EventIn, EventsRequest, ItemsRequest, RankRequest
from serve.recommend.schema import (
    EventsReply,
    ItemsPage,
    ItemsReply,
    RankReply,
    StatusReply,
    TrainReply,
    UserDeleted,
    UserEvents,
    UsersPage,
)

__all__ = ["recommend_router"]

M = TypeVar("M", bound=BaseModel)


def recommend_router(recommender: Recommender) -> APIRouter:
    """The routes, asking ``recommender``, which is open whenever a request comes."""
    router = APIRouter(tags=["recommend"], prefix="/v1/recommend")
    _add_catalogue(router, recommender)
    _add_feedback(router, recommender)
    _add_ranking(router, recommender)
    return router


def _add_catalogue(router: APIRouter, recommender: Recommender) -> None:
    body = request_body(ItemsRequest)

    @router.put("/items", response_model=ItemsReply, openapi_extra=body, summary="Put items")
    @router.post("/items", response_model=ItemsReply, openapi_extra=body, summary="Add items")
    async def put_items(request: Request) -> Response:
        """Adds items, or puts them in the place of those of the same id: all of them or none."""
        query = await _body(request, ItemsRequest)
        with _explained("items"):
            return _reply(await recommender.put_items(query))

    @router.get("/items", summary="List items")
    async def list_items(
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: Annotated[str, Query(max_length=128)] = "",
        query: Annotated[str, Query(max_length=200)] = "",
    ) -> ItemsPage:
        """Items in the order of their ids; with a query, those that hold it, whatever its case."""
        return await recommender.list_items(limit=limit, cursor=cursor, query=query)


def _add_feedback(router: APIRouter, recommender: Recommender) -> None:
    @router.post(
        "/events",
        response_model=EventsReply,
        openapi_extra=_events_body(),
        summary="Tell what users did",
    )
    async def add_events(request: Request) -> Response:
        """Keeps each event whose id is new; the next ranking knows them."""
        return _reply(await recommender.add_events(await _body(request, EventsRequest)))

    @router.get("/users", summary="List users")
    async def list_users(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> UsersPage:
        """Users who have events, those of the latest first."""
        return await recommender.list_users(limit=limit)

    @router.get("/users/{user:path}/events", summary="What a user did")
    async def list_events(user: str, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> UserEvents:
        """A user's latest events, the last one first."""
        return await recommender.list_events(user, limit=limit)

    @router.delete("/users/{user:path}", summary="Forget a user")
    async def delete_user(user: str) -> UserDeleted:
        """Deletes a user's events and rankings; of one who has none, nothing."""
        return await recommender.delete_user(user)


def _add_ranking(router: APIRouter, recommender: Recommender) -> None:
    @router.post(
        "/rank",
        response_model=RankReply,
        openapi_extra=request_body(RankRequest),
        summary="Rank items for a user",
    )
    async def rank(request: Request) -> Response:
        """The best candidates, why, and how the list would be without diversity."""
        query = await _body(request, RankRequest)
        with _explained("history"):
            return _reply(await recommender.rank(query))

    @router.post("/train", response_model=TrainReply, summary="Train the ranker")
    async def train(request: Request) -> Response:
        """Learns from the stored events; takes up to minutes, and goes on if the client leaves."""
        deadline: asyncio.Timeout | None = getattr(request.state, "deadline", None)
        if deadline is not None:
            deadline.reschedule(None)  # what is learnt from is limited in number
        with _explained("ranking_model"):
            return _reply(await recommender.train())

    @router.get("/status", summary="What the recommender knows")
    async def status() -> StatusReply:
        """Counts, the ranker in use and how well it did."""
        return await recommender.status()


async def _body(request: Request, model: type[M]) -> M:
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise explain_validation(error) from None


def _reply(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


@contextmanager
def _explained(param: str) -> Iterator[None]:
    """The models' errors as replies."""
    try:
        yield
    except QueueFullError as error:
        raise ApiError(
            429,
            str(error),
            code="queue_full",
            headers={"retry-after": str(error.retry_after_s)},
        ) from None
    except RefusedError as error:
        raise ApiError(400, str(error), code="invalid_text", param=param) from None
    except StoppedError as error:
        raise ApiError(503, str(error), code="stopping") from None
    except ServeError as error:
        raise ApiError(500, str(error), code="item_failed", param=param) from error


def _events_body() -> dict[str, object]:
    """The description of the body, with that of an event where `EventsRequest` takes any."""
    body = request_body(EventsRequest)
    schema = body["requestBody"]["content"]["application/json"]["schema"]
    event = request_body(EventIn)["requestBody"]["content"]["application/json"]["schema"]
    schema["properties"]["events"]["items"] = event
    return body
