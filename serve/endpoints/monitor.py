"""`/v1/monitor/...`: items in; topics, windows, items and alerts out."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from serve.endpoints.schema import request_body
from serve.errors import ApiError
from serve.monitor.cursor import decode_cursor
from serve.monitor.database import StoreUnavailableError
from serve.monitor.intake import ItemsRequest, read_body
from serve.monitor.item import Item
from serve.monitor.monitor import Monitor
from serve.monitor.queries import ItemQuery
from serve.monitor.schema import (
    Alert,
    ItemPage,
    Polarity,
    Receipt,
    TopicList,
    WebhookTest,
    WindowList,
)
from serve.monitor.times import parse_query_time
from serve.monitor.windows import SpanError, UnknownTopicError
from serve.outcomes import QueueFullError, StoppedError

__all__ = ["monitor_router"]

logger = logging.getLogger(__name__)

_LONGEST_BUCKET_S = 366 * 86_400

Name = Annotated[str, Query(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
Since = Annotated[str | None, Query(description="ISO 8601 with an offset, or epoch seconds.")]
Until = Annotated[str | None, Query(description="As since; what happened then is left out.")]


def monitor_router(monitor: Monitor) -> APIRouter:
    """The routes, asking ``monitor``."""
    router = APIRouter(tags=["monitor"], prefix="/v1/monitor")

    @router.post("/items", openapi_extra=_items_body(), summary="Add items")
    async def add_items(request: Request) -> Receipt:
        """Reads and stores items; what is accepted is on disk, and counted once."""
        intake = read_body(
            await request.body(),
            content_type=request.headers.get("content-type", ""),
            args=monitor.args,
            now_ms=round(monitor.clock() * 1000),
        )
        with _explained():
            receipt = await monitor.add(intake.items)
        rejected = sorted((*intake.rejected, *receipt.rejected), key=lambda item: item.line)
        return receipt.model_copy(update={"rejected": rejected})

    @router.get("/topics", summary="List topics")
    async def list_topics(
        since: Since = None, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000
    ) -> TopicList:
        """Topics with the figures of their items since then, those with most items first."""
        with _explained():
            return await monitor.topics(since_ms=_time("since", since), limit=limit)

    @router.get("/windows", summary="Opinion over time")
    async def list_windows(
        topic: Name,
        bucket_s: Annotated[int | None, Query(ge=1, le=_LONGEST_BUCKET_S)] = None,
        since: Since = None,
        until: Until = None,
    ) -> WindowList:
        """Counts and net sentiment of every bucket, those without items included."""
        with _explained():
            return await monitor.windows(
                topic,
                bucket_s=bucket_s or monitor.args.bucket_s,
                since_ms=_time("since", since),
                until_ms=_time("until", until),
            )

    @router.get("/items", summary="List items")
    async def list_items(
        topic: Name | None = None,
        since: Since = None,
        until: Until = None,
        sentiment: Polarity | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: str | None = None,
    ) -> ItemPage:
        """Items with what the model made of them, newest first, a page at a time."""
        wanted = ItemQuery(
            limit=limit,
            topic=topic,
            since_ms=_time("since", since),
            until_ms=_time("until", until),
            polarity=sentiment,
            after=_place(cursor),
        )
        with _explained():
            return await monitor.items(wanted)

    @router.get("/alerts", summary="List alerts")
    async def list_alerts(
        topic: Name | None = None,
        since: Since = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> list[Alert]:
        """Alerts that were up then or later, newest first."""
        with _explained():
            return await monitor.alerts(topic=topic, since_ms=_time("since", since), limit=limit)

    @router.post("/alerts/{alert}/acknowledge", summary="Acknowledge an alert")
    async def acknowledge(
        alert: Annotated[str, Path(max_length=200, pattern=r"^[^\x00]*$")],
    ) -> Alert:
        """Notes that someone has seen it; again and again is the same as once."""
        with _explained():
            found = await monitor.acknowledge(alert)
        if found is None:
            raise ApiError(
                404,
                f"alert '{alert}' does not exist. /v1/monitor/alerts lists those that do.",
                code="alert_not_found",
                param="alert",
            )
        return found

    @router.post("/webhook/test", summary="Send a test message to the webhook")
    async def test_webhook() -> WebhookTest:
        """Sends one message at once and tells how that went."""
        outcome = await monitor.test_webhook()
        if outcome is None:
            raise ApiError(
                400,
                "this monitor has no webhook. Set webhook_url in its arguments.",
                code="no_webhook",
            )
        return outcome

    return router


@contextmanager
def _explained() -> Iterator[None]:
    """What the monitor raises, as replies."""
    try:
        yield
    except QueueFullError as error:
        raise ApiError(
            429,
            str(error),
            code="queue_full",
            headers={"retry-after": str(error.retry_after_s)},
        ) from None
    except StoppedError as error:
        raise ApiError(503, str(error), code="stopping") from None
    except StoreUnavailableError:
        logger.exception("the monitor's database failed")
        raise ApiError(
            503,
            "the monitor's database does not answer; nothing of this request was stored. Try "
            "again.",
            code="database_unavailable",
            headers={"retry-after": "5"},
        ) from None
    except SpanError as error:
        raise ApiError(400, str(error), code="invalid_span", param="since") from None
    except UnknownTopicError as error:
        raise ApiError(404, str(error), code="topic_not_found", param="topic") from None


def _time(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_query_time(text)
    except ValueError as error:
        raise ApiError(
            400, f"{name} {error} (got '{text[:80]}').", code="invalid_value", param=name
        ) from None


def _place(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    try:
        return decode_cursor(cursor)
    except ValueError:
        raise ApiError(
            400,
            "cursor is none of this service. Send next_cursor of the page before.",
            code="invalid_value",
            param="cursor",
        ) from None


def _items_body() -> dict[str, Any]:
    """The description of both forms of the body."""
    body = request_body(ItemsRequest)
    line = request_body(Item)["requestBody"]["content"]["application/json"]
    body["requestBody"]["content"]["application/x-ndjson"] = line
    return body
