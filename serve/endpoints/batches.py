"""`/v1/batches`: requests that are answered offline, in OpenAI's shapes.

The limits of a key count the requests to these routes, not the lines of a batch: how many of those
there may be is said by the service's `BatchArgs`.
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError

from serve.batches.batches import Batches
from serve.batches.schema import Batch, BatchList, BatchRequest
from serve.endpoints.files import page_of
from serve.endpoints.schema import request_body
from serve.errors import explain_validation

__all__ = ["batches_router"]


def batches_router(batches: Batches) -> APIRouter:
    """The routes, asking ``batches``."""
    router = APIRouter(tags=["batches"], prefix="/v1/batches")

    @router.post("", openapi_extra=request_body(BatchRequest), summary="Make a batch")
    async def create_batch(request: Request) -> Batch:
        """Answers every line of an uploaded file, after the batches before it.

        Answers and errors are those of the online route. They lie in two files, each in the order
        of the input: what was answered, and what was refused or failed.
        """
        try:
            query = BatchRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        return await batches.create(query)

    @router.get("", summary="List batches")
    async def list_batches(
        after: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> BatchList:
        """The batches of the key, newest first."""
        found = await batches.batches()
        page, has_more = page_of(found, lambda one: one.id, after=after, limit=limit)
        first, last = (page[0].id, page[-1].id) if page else (None, None)
        return BatchList(data=page, first_id=first, last_id=last, has_more=has_more)

    @router.get("/{batch_id}", summary="Describe a batch")
    async def get_batch(batch_id: str) -> Batch:
        """How far it has come, and which files hold its answers."""
        return await batches.batch(batch_id)

    @router.post("/{batch_id}/cancel", summary="Cancel a batch")
    async def cancel_batch(batch_id: str) -> Batch:
        """Ends it after the requests that are being answered; what was answered is kept."""
        return await batches.cancel(batch_id)

    return router
