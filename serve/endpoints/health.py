"""`/healthz`, `/readyz` and `/metrics`: what an operator's machinery asks."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from serve.errors import ApiError
from serve.metrics import ServiceMetrics
from serve.models import Models

__all__ = ["health_router"]


def health_router(models: Models, metrics: ServiceMetrics) -> APIRouter:
    """The routes. ``models`` have answered their own samples when they were loaded."""
    router = APIRouter(tags=["operation"])

    @router.get("/healthz", summary="Is the process alive?")
    async def healthz() -> dict[str, str]:
        """Answers as long as the event loop turns."""
        return {"status": "ok"}

    @router.get("/readyz", summary="Would a request be answered?")
    async def readyz() -> dict[str, object]:
        """200 where every model is loaded and no queue is full, else 503."""
        if full := models.full:
            raise ApiError(503, f"queue full: {', '.join(full)}.", code="not_ready")
        return {"status": "ready", "models": models.names}

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def show_metrics() -> Response:
        """Requests, queues, batches, latencies and tokens."""
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return router
