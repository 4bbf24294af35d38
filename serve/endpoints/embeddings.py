"""`POST /v1/embeddings`: texts as vectors, in OpenAI's shape."""

import base64
from collections.abc import Sequence
from typing import Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ValidationError

from ray_sft.core import ServeError
from ray_sft.tasks.embedding import EmbeddingResponse
from serve.endpoints.schema import request_body
from serve.endpoints.texts import (
    TextsRequest,
    Usage,
    answer_texts,
    texts_of,
    timing_headers,
    usage_of,
)
from serve.errors import ApiError, explain_validation
from serve.models import Models
from serve.outcomes import Answer

__all__ = ["EmbeddingsRequest", "EmbeddingsResponse", "embeddings_router"]


class EmbeddingsRequest(TextsRequest):
    """Texts to embed."""

    encoding_format: Literal["float", "base64"] = "float"
    """Numbers, or little-endian float32 in base64, which is a third of the size."""
    user: str | None = None
    """Taken, as OpenAI's clients may send it, and not used."""


class TextEmbedding(BaseModel):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsResponse(BaseModel):
    """A vector of length 1 for each text, in the order of the request."""

    object: Literal["list"] = "list"
    data: list[TextEmbedding]
    model: str
    usage: Usage


def embeddings_router(models: Models, *, max_inputs: int) -> APIRouter:
    """The route, asking ``models``."""
    router = APIRouter(tags=["embeddings"])

    @router.post(
        "/v1/embeddings",
        response_model=EmbeddingsResponse,
        openapi_extra=request_body(EmbeddingsRequest),
        summary="Embed texts",
    )
    async def embeddings(request: Request) -> Response:
        """Vectors that are near each other where the texts mean the same."""
        try:
            query = EmbeddingsRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        name, model = models.embedder(query.model)
        texts = texts_of(query, max_inputs=max_inputs)
        answers = await answer_texts(texts, query, model)
        response = _response(name, answers, as_text=query.encoding_format == "base64")
        return Response(
            response.model_dump_json(),
            media_type="application/json",
            headers=timing_headers(answers),
        )

    return router


def _response(
    name: str, answers: Sequence[Answer | ServeError], *, as_text: bool
) -> EmbeddingsResponse:
    data = []
    for index, answer in enumerate(answers):
        if isinstance(answer, ServeError):  # OpenAI's shape has no place for a missing vector
            raise ApiError(500, str(answer), code="item_failed", param=f"input.{index}")
        assert isinstance(answer.response, EmbeddingResponse)
        vector = answer.response.embedding
        shown = _base64(vector) if as_text else vector
        data.append(TextEmbedding(index=index, embedding=shown))
    return EmbeddingsResponse(data=data, model=name, usage=usage_of(answers))


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
