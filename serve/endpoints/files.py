"""`/v1/files`: the files of batches, in OpenAI's shapes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from starlette.requests import ClientDisconnect

from serve.batches.batches import Batches
from serve.batches.schema import FileDeleted, FileList, FileObject, Purpose
from serve.errors import ApiError

__all__ = ["FILES_PATH", "files_router", "page_of"]

FILES_PATH = "/v1/files"

T = TypeVar("T")

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["purpose", "file"],
                    "additionalProperties": False,
                    "properties": {
                        "purpose": {"type": "string", "enum": ["batch"]},
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "JSON lines, each {custom_id, method, url, body}.",
                        },
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "string",
                            "pattern": "^[0-9]{4,12}$",
                            "description": "How long the file is kept.",
                        },
                    },
                }
            }
        },
    }
}
_LINES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The content of the file.",
        "content": {"application/jsonl": {"schema": {"type": "string"}}},
    }
}


def files_router(batches: Batches) -> APIRouter:
    """The routes, asking ``batches``."""
    router = APIRouter(tags=["batches"])

    @router.post(FILES_PATH, openapi_extra=_FORM, summary="Upload a file")
    async def create_file(request: Request) -> FileObject:
        """Keeps a file of requests, which may be far longer than the body of another route."""
        _take_time(request, batches.args.transfer_timeout_s)
        kind = request.headers.get("content-type", "")
        return await batches.upload(kind, _arriving(request))

    @router.get(FILES_PATH, summary="List files")
    async def list_files(
        after: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        order: Literal["asc", "desc"] = "desc",
        purpose: Purpose | None = None,
    ) -> FileList:
        """The files of the key, those that its batches have written included."""
        found = [one for one in await batches.files() if purpose in (None, one.purpose)]
        if order == "asc":
            found.reverse()
        page, has_more = page_of(found, lambda one: one.id, after=after, limit=limit)
        first, last = (page[0].id, page[-1].id) if page else (None, None)
        return FileList(data=page, first_id=first, last_id=last, has_more=has_more)

    @router.get(FILES_PATH + "/{file_id}", summary="Describe a file")
    async def get_file(file_id: str) -> FileObject:
        """Its size and times."""
        return await batches.file(file_id)

    @router.get(
        FILES_PATH + "/{file_id}/content",
        response_class=FileResponse,
        responses=_LINES,
        summary="Download a file",
    )
    async def get_content(file_id: str, request: Request) -> FileResponse:
        """Its lines, as they were sent or written."""
        path = await batches.content(file_id)
        _take_time(request, batches.args.transfer_timeout_s)
        return FileResponse(path, media_type="application/jsonl")

    @router.delete(FILES_PATH + "/{file_id}", summary="Delete a file")
    async def delete_file(file_id: str) -> FileDeleted:
        """Deletes it, unless a batch still reads it."""
        await batches.delete_file(file_id)
        return FileDeleted(id=file_id)

    return router


def page_of(
    found: Sequence[T], id_of: Callable[[T], str], *, after: str | None, limit: int
) -> tuple[list[T], bool]:
    """What follows the one with the id ``after``, and whether there is more.

    Raises:
        ApiError: 400, nothing has that id.
    """
    start = 0
    if after is not None:
        ids = [id_of(one) for one in found]
        if after not in ids:
            raise ApiError(
                400,
                f"after '{after}' names nothing of this list.",
                code="invalid_value",
                param="after",
            )
        start = ids.index(after) + 1
    return list(found[start : start + limit]), len(found) > start + limit


def _take_time(request: Request, seconds: float) -> None:
    """Moves the deadline of a request: moving many bytes may take longer than an answer."""
    deadline: asyncio.Timeout | None = getattr(request.state, "deadline", None)
    if deadline is not None:
        deadline.reschedule(asyncio.get_running_loop().time() + seconds)


async def _arriving(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise ApiError(400, "the body is incomplete.", code="incomplete_body") from None
