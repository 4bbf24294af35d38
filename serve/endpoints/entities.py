"""`POST /v1/entities`: the entities in one text or several, with where they stand."""

from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError

from ray_sft.core import ServeError
from ray_sft.tasks.entities import EntityResponse
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

__all__ = [
    "EntitiesRequest",
    "EntitiesResponse",
    "FoundEntity",
    "entities_router",
    "found_entities",
]


class EntitiesRequest(TextsRequest):
    """Texts to find entities in."""


class FoundEntity(BaseModel):
    """An entity of a text."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    label: str
    """Its type."""
    start: int
    """Its first character, as a count of Unicode code points."""
    end: int
    """The character after its last."""
    text: str
    """What stands there."""
    score: float
    """Mean probability of its words' tags."""


class TextEntities(BaseModel):
    """The answer to one text."""

    index: int
    entities: list[FoundEntity] | None = None
    error: ErrorTree | None = None


class EntitiesResponse(BaseModel):
    """The entities of each text, in the order of the request and of the text.

    A text on which the model failed has ``error`` instead; the others are answered.
    """

    object: Literal["list"] = "list"
    model: str
    data: list[TextEntities]
    usage: Usage


def entities_router(models: Models, *, max_inputs: int) -> APIRouter:
    """The route, asking ``models``."""
    router = APIRouter(tags=["entities"])

    @router.post(
        "/v1/entities",
        response_model=EntitiesResponse,
        openapi_extra=request_body(EntitiesRequest),
        summary="Find entities in texts",
    )
    async def entities(request: Request) -> Response:
        """Names, chemicals, places, or whatever the model was trained on, and their characters."""
        try:
            query = EntitiesRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        name, model = models.tagger(query.model)
        texts = texts_of(query, max_inputs=max_inputs)
        answers = await answer_texts(texts, query, model)
        response = _response(name, texts, answers)
        return Response(
            response.model_dump_json(exclude_none=True),
            media_type="application/json",
            headers=timing_headers(answers),
        )

    return router


def _response(
    name: str, texts: Sequence[str], answers: Sequence[Answer | ServeError]
) -> EntitiesResponse:
    data = [
        _text_entities(index, text, answer)
        for index, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]
    return EntitiesResponse(model=name, data=data, usage=usage_of(answers))


def _text_entities(index: int, text: str, answer: Answer | ServeError) -> TextEntities:
    if isinstance(answer, ServeError):
        return TextEntities(index=index, error=item_error(index, answer))
    assert isinstance(answer.response, EntityResponse)
    return TextEntities(index=index, entities=found_entities(text, answer.response))


def found_entities(text: str, response: EntityResponse) -> list[FoundEntity]:
    """The entities of a text, with what stands there."""
    return [
        FoundEntity(
            label=entity.label,
            start=entity.start,
            end=entity.end,
            text=text[entity.start : entity.end],
            score=entity.score,
        )
        for entity in response.entities
    ]
