"""`POST /v1/classify`: the most probable labels of one text or several."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ray_sft.core import ServeError
from ray_sft.tasks.sequence_classification import ClassificationResponse, LabelScore
from serve.endpoints.schema import request_body
from serve.errors import ApiError, explain_validation
from serve.models import Models
from serve.outcomes import Answer, QueueFullError, RefusedError, StoppedError, Timing

__all__ = ["ClassifyRequest", "ClassifyResponse", "classify_router"]

Text = Annotated[str, StringConstraints(min_length=1)]

_CHARACTERS_A_TOKEN = 32
"""More than this, on average, is no text; bounds the work of counting a text's tokens."""


class ClassifyRequest(BaseModel):
    """Texts to classify."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    input: Text | Annotated[list[Text], Field(min_length=1)]
    """One text or a list of texts."""
    model: str | None = None
    """Name of the model; may be left out where the service has one classifier."""
    top_k: int = Field(default=3, ge=1, strict=True)
    """How many labels to return for each text."""


class ErrorTree(BaseModel):
    """Why a text has no answer."""

    message: str
    type: str
    param: str | None
    code: str | None


class Classification(BaseModel):
    """The answer to one text."""

    index: int
    label: str | None = None
    score: float | None = None
    scores: list[LabelScore] | None = None
    error: ErrorTree | None = None


class Usage(BaseModel):
    """Tokens that the model read."""

    prompt_tokens: int
    total_tokens: int


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
        # validated here and not by the framework: half the time of a short request
        try:
            query = ClassifyRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        name, model = models.classifier(query.model)
        texts = _texts(query, max_inputs)
        _check_sizes(texts, query, getattr(model.bundle.task, "max_length", 0))
        try:
            answers = await model.batcher.submit([{"text": text} for text in texts])
        except QueueFullError as error:
            raise _overloaded(error) from None
        except StoppedError as error:
            raise ApiError(503, str(error), code="stopping") from None
        _raise_refusals(answers, query)
        response = _response(name, answers, query.top_k)
        return Response(
            response.model_dump_json(exclude_none=True),
            media_type="application/json",
            headers=_timing_headers(answers),
        )

    return router


def _texts(query: ClassifyRequest, max_inputs: int) -> list[str]:
    texts = [query.input] if isinstance(query.input, str) else query.input
    if len(texts) > max_inputs:
        raise ApiError(
            400,
            f"input has {len(texts)} texts; one request may have {max_inputs}. Split it.",
            code="too_many_inputs",
            param="input",
        )
    return texts


def _check_sizes(texts: Sequence[str], query: ClassifyRequest, max_tokens: int) -> None:
    limit = max_tokens * _CHARACTERS_A_TOKEN
    for index, text in enumerate(texts):
        if limit and len(text) > limit:
            raise ApiError(
                400,
                f"the text has {len(text)} characters; the model takes {max_tokens} tokens, and "
                f"at most {limit} characters. Shorten it.",
                code="text_too_long",
                param=_param(query, index),
            )


def _raise_refusals(answers: Sequence[Answer | ServeError], query: ClassifyRequest) -> None:
    for index, answer in enumerate(answers):
        if isinstance(answer, RefusedError):
            raise ApiError(400, str(answer), code="invalid_text", param=_param(query, index))
        if isinstance(answer, StoppedError):
            raise ApiError(503, str(answer), code="stopping")
        if isinstance(answer, ServeError) and len(answers) == 1:
            raise ApiError(500, str(answer), code="item_failed", param="input")


def _response(name: str, answers: Sequence[Answer | ServeError], top_k: int) -> ClassifyResponse:
    data = [_classification(index, answer, top_k) for index, answer in enumerate(answers)]
    num_tokens = sum(answer.num_tokens for answer in answers if isinstance(answer, Answer))
    usage = Usage(prompt_tokens=num_tokens, total_tokens=num_tokens)
    return ClassifyResponse(model=name, data=data, usage=usage)


def _classification(index: int, answer: Answer | ServeError, top_k: int) -> Classification:
    if isinstance(answer, ServeError):
        failure = ApiError(500, str(answer), code="item_failed", param=f"input.{index}")
        return Classification(index=index, error=ErrorTree.model_validate(failure.tree()))
    response = answer.response
    assert isinstance(response, ClassificationResponse)
    return Classification(
        index=index,
        label=response.label,
        score=response.score,
        scores=response.scores[:top_k],
    )


def _param(query: ClassifyRequest, index: int) -> str:
    return "input" if isinstance(query.input, str) else f"input.{index}"


def _overloaded(error: QueueFullError) -> ApiError:
    return ApiError(
        429,
        str(error),
        code="queue_full",
        headers={"retry-after": str(error.retry_after_s)},
    )


def _timing_headers(answers: Sequence[Answer | ServeError]) -> dict[str, str]:
    """Milliseconds of the slowest text, and the largest batch."""
    timings: list[Timing] = [answer.timing for answer in answers if isinstance(answer, Answer)]
    if not timings:
        return {}
    return {
        "x-queue-time": f"{max(timing.queue_s for timing in timings) * 1e3:.3f}",
        "x-tokenize-time": f"{max(timing.tokenize_s for timing in timings) * 1e3:.3f}",
        "x-inference-time": f"{max(timing.inference_s for timing in timings) * 1e3:.3f}",
        "x-batch-size": str(max(timing.batch_size for timing in timings)),
    }
