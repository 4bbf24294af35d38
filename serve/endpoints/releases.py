"""`GET /v1/releases`: which bundles every replica serves, and how candidates compare with them."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeAlias

from fastapi import APIRouter
from pydantic import BaseModel

from serve.release.report import ReplicaReport

__all__ = ["ReleaseList", "Reports", "releases_router"]

Reports: TypeAlias = Callable[[], Awaitable[Sequence[ReplicaReport]]]


class ReleaseList(BaseModel):
    """Every replica of the service."""

    object: Literal["list"] = "list"
    data: list[ReplicaReport]


def releases_router(reports: Reports) -> APIRouter:
    """The route; ``reports`` asks every replica."""
    router = APIRouter(tags=["operation"])

    @router.get("/v1/releases", summary="Show releases", response_model=ReleaseList)
    async def list_releases() -> ReleaseList:
        """Bundles, candidates and their comparison, of every replica."""
        return ReleaseList(data=list(await reports()))

    return router
