"""`POST /v1/classify`: the most probable labels of one text or several."""

from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, ValidationError

from ray_sft.core import ServeError
from ray_sft.tasks.labelled_text import LabelScore
from ray_sft.tasks.multi_label_classification import MultiLabelResponse
from ray_sft.tasks.sequence_classification import ClassificationResponse
from serve.endpoints.schema import request_body
from serve.endpoints.texts import (
    ErrorTree,
    TextsRequest,
    Usage,
    answer_texts,
    item_error,
    texts_of,
    timing_headers,
    usage_of,
)
from serve.errors import explain_validation
from serve.models import Models
from serve.outcomes import Answer

__all__ = ["ClassifyRequest", "ClassifyResponse", "classify_router"]


class ClassifyRequest(TextsRequest):
    """Texts to classify."""

    top_k: int = Field(default=3, ge=1, strict=True)
    """How many labels to return for each text."""


class Classification(BaseModel):
    """The answer to one text: its most probable label, or all ``labels`` that apply."""

    index: int
    label: str | None = None
    score: float | None = None
    labels: list[str] | None = None
    scores: list[LabelScore] | None = None
    error: ErrorTree | None = None


class ClassifyResponse(BaseModel):
    """One classification per text, in the order of the request.

    A text on which the model failed has ``error`` instead of a label; the others are answered.
    """

    object: Literal["list"] = "list"
    model: str
    data: list[Classification]
    usage: Usage


def classify_router(models: Models, *, max_inputs: int) -> APIRouter:
    """The route, asking ``models``."""
    router = APIRouter(tags=["classify"])

    @router.post(
        "/v1/classify",
        response_model=ClassifyResponse,
        openapi_extra=request_body(ClassifyRequest),
        summary="Classify texts",
    )
    async def classify(request: Request) -> Response:
        """The most probable labels of each text, with their probabilities."""
        try:
            query = ClassifyRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        name, model = models.labeller(query.model)
        texts = texts_of(query, max_inputs=max_inputs)
        answers = await answer_texts(texts, query, model)
        response = _response(name, answers, query.top_k)
        return Response(
            response.model_dump_json(exclude_none=True),
            media_type="application/json",
            headers=timing_headers(answers),
        )

    return router


def _response(name: str, answers: Sequence[Answer | ServeError], top_k: int) -> ClassifyResponse:
    data = [_classification(index, answer, top_k) for index, answer in enumerate(answers)]
    return ClassifyResponse(model=name, data=data, usage=usage_of(answers))


def _classification(index: int, answer: Answer | ServeError, top_k: int) -> Classification:
    if isinstance(answer, ServeError):
        return Classification(index=index, error=item_error(index, answer))
    response = answer.response
    if isinstance(response, MultiLabelResponse):
        scores = response.scores[:top_k]
        return Classification(index=index, labels=response.labels, scores=scores)
    assert isinstance(response, ClassificationResponse)
    return Classification(
        index=index,
        label=response.label,
        score=response.score,
        scores=response.scores[:top_k],
    )
