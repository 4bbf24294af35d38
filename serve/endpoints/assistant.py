"""`/v1/assistant/...`: answers to customers, the knowledge behind them, and what they think."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, TypeVar

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ValidationError

from ray_sft.core import ServeError
from serve.assistant.assistant import Assistant
from serve.assistant.documents import Document, DocumentId
from serve.assistant.language import clean
from serve.assistant.schema import (
    AnswerRequest,
    AssistantAnswer,
    FeedbackRequest,
    KnowledgeChanges,
    KnowledgePage,
    KnowledgeRequest,
    KnowledgeText,
)
from serve.endpoints.schema import request_body
from serve.errors import ApiError, explain_validation, queue_full
from serve.outcomes import QueueFullError, RefusedError, StoppedError

__all__ = ["assistant_router"]

M = TypeVar("M", bound=BaseModel)


def assistant_router(assistant: Assistant) -> APIRouter:
    """The routes, asking ``assistant``, which is open whenever a request comes."""
    router = APIRouter(tags=["assistant"])
    _add_answering(router, assistant)
    _add_knowledge(router, assistant)
    return router


def _add_answering(router: APIRouter, assistant: Assistant) -> None:
    @router.post(
        "/v1/assistant/answer",
        response_model=AssistantAnswer,
        openapi_extra=request_body(AnswerRequest),
        summary="Answer a question",
    )
    async def answer(request: Request) -> AssistantAnswer:
        """The approved answer, quoted passages with citations, or that nothing is known."""
        query = await _body(request, AnswerRequest)
        if not clean(query.question):
            raise ApiError(
                400, "question: holds nothing to read.", code="invalid_value", param="question"
            )
        with _model_errors("question"):
            return await assistant.answer(
                query.question, top_k=query.top_k, language=query.language
            )

    @router.post(
        "/v1/assistant/feedback",
        openapi_extra=request_body(FeedbackRequest),
        summary="Judge an answer",
    )
    async def feedback(request: Request) -> dict[str, str]:
        """Stores a verdict on an answer; a later one takes its place."""
        verdict = await _body(request, FeedbackRequest)
        await assistant.feedback.record(verdict)
        return {"answer_id": verdict.answer_id, "verdict": verdict.verdict}


def _add_knowledge(router: APIRouter, assistant: Assistant) -> None:
    @router.put(
        "/v1/assistant/knowledge",
        response_model=KnowledgeChanges,
        openapi_extra=_knowledge_body(),
        summary="Add or replace knowledge",
    )
    async def put(request: Request) -> KnowledgeChanges:
        """Each document by itself; questions find it as soon as this is answered."""
        query = await _body(request, KnowledgeRequest)
        with _model_errors("documents"):
            return await assistant.put(query.documents)

    @router.get(
        "/v1/assistant/knowledge", response_model=KnowledgePage, summary="List the knowledge"
    )
    async def entries(
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[DocumentId | None, Query()] = None,
    ) -> KnowledgePage:
        """Documents in the order of their ids, without their texts."""
        documents = await assistant.index.entries(after=cursor or "", limit=limit + 1)
        has_more = len(documents) > limit
        documents = documents[:limit]
        return KnowledgePage(
            documents=documents, next_cursor=documents[-1].id if has_more else None
        )

    @router.get(
        "/v1/assistant/knowledge/{document_id}",
        response_model=KnowledgeText,
        summary="Open a document",
    )
    async def get(document_id: Annotated[DocumentId, Path()]) -> KnowledgeText:
        """The whole text, in which a citation's start and end count characters."""
        document = await assistant.index.get(document_id)
        if document is None:
            raise _missing(document_id)
        return document

    @router.delete("/v1/assistant/knowledge/{document_id}", summary="Remove a document")
    async def delete(document_id: Annotated[DocumentId, Path()]) -> dict[str, object]:
        """No question finds it from now on."""
        if not await assistant.index.delete(document_id):
            raise _missing(document_id)
        return {"id": document_id, "deleted": True}


async def _body(request: Request, model: type[M]) -> M:
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        raise explain_validation(error) from None


@contextmanager
def _model_errors(param: str) -> Iterator[None]:
    """The embedding model's errors as replies."""
    try:
        yield
    except QueueFullError as error:
        raise queue_full(error) from None
    except RefusedError as error:
        raise ApiError(400, str(error), code="invalid_text", param=param) from None
    except StoppedError as error:
        raise ApiError(503, str(error), code="stopping") from None
    except ServeError as error:
        raise ApiError(500, str(error), code="item_failed", param=param) from error


def _knowledge_body() -> dict[str, object]:
    """The description of the body, with that of a document where `KnowledgeRequest` takes any."""
    body = request_body(KnowledgeRequest)
    schema = body["requestBody"]["content"]["application/json"]["schema"]
    document = request_body(Document)["requestBody"]["content"]["application/json"]["schema"]
    schema["properties"]["documents"]["items"] = document
    return body


def _missing(document_id: str) -> ApiError:
    return ApiError(
        404,
        f"document '{document_id}' does not exist. GET /v1/assistant/knowledge lists those that "
        "do.",
        code="document_not_found",
        param="document_id",
    )
