"""`POST /v1/translate`: one text or several in the other language of a model."""

from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError

from ray_sft.core import ServeError
from serve.endpoints.schema import request_body
from serve.endpoints.texts import (
    ErrorTree,
    TextsRequest,
    answer_texts,
    item_error,
    texts_of,
    timing_headers,
    usage_of,
)
from serve.errors import explain_validation
from serve.models import Models, TranslatedText
from serve.outcomes import Answer

__all__ = ["TranslateRequest", "TranslateResponse", "translate_router"]


class TranslateRequest(TextsRequest):
    """Texts to translate."""


class TextTranslation(BaseModel):
    """The answer to one text."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    index: int
    text: str | None = None
    """The translation."""
    finish_reason: Literal["stop", "length"] | None = None
    """``length`` where the model did not come to an end and was cut."""
    error: ErrorTree | None = None


class TranslationUsage(BaseModel):
    """Tokens that the model read and wrote."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TranslateResponse(BaseModel):
    """One translation per text, in the order of the request.

    A text on which the model failed has ``error`` instead; the others are answered.
    """

    object: Literal["list"] = "list"
    model: str
    data: list[TextTranslation]
    usage: TranslationUsage


def translate_router(models: Models, *, max_inputs: int) -> APIRouter:
    """The route, asking ``models``."""
    router = APIRouter(tags=["translate"])

    @router.post(
        "/v1/translate",
        response_model=TranslateResponse,
        openapi_extra=request_body(TranslateRequest),
        summary="Translate texts",
    )
    async def translate(request: Request) -> Response:
        """Each text by itself; the likeliest translation, the same every time."""
        try:
            query = TranslateRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        name, model = models.translator(query.model)
        texts = texts_of(query, max_inputs=max_inputs)
        answers = await answer_texts(texts, query, model)
        response = _response(name, answers)
        return Response(
            response.model_dump_json(exclude_none=True),
            media_type="application/json",
            headers=timing_headers(answers),
        )

    return router


def _response(name: str, answers: Sequence[Answer | ServeError]) -> TranslateResponse:
    read = usage_of(answers).prompt_tokens
    written = sum(_translated(one).num_tokens for one in answers if isinstance(one, Answer))
    return TranslateResponse(
        model=name,
        data=[_text_translation(index, answer) for index, answer in enumerate(answers)],
        usage=TranslationUsage(
            prompt_tokens=read, completion_tokens=written, total_tokens=read + written
        ),
    )


def _text_translation(index: int, answer: Answer | ServeError) -> TextTranslation:
    if isinstance(answer, ServeError):
        return TextTranslation(index=index, error=item_error(index, answer))
    found = _translated(answer)
    reason: Literal["stop", "length"] = "stop" if found.is_whole else "length"
    return TextTranslation(index=index, text=found.text, finish_reason=reason)


def _translated(answer: Answer) -> TranslatedText:
    assert isinstance(answer.response, TranslatedText)
    return answer.response
