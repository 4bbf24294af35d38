"""What the routes that read texts have in common: the request, its limits, and what may go wrong.

A route adds what it does with the answers. Bodies are validated by the routes and not by the
framework: that took half the time of a short request.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ray_sft.core import ServeError
from ray_sft.tasks import Row
from serve.caller import charge_tokens
from serve.errors import ApiError, queue_full
from serve.models import Encoder, Generator
from serve.outcomes import Answer, QueueFullError, RefusedError, StoppedError, Timing
from serve.tracing import describe_headers

__all__ = [
    "ErrorTree",
    "Text",
    "TextsRequest",
    "Usage",
    "answer_rows",
    "answer_texts",
    "check_count",
    "check_sizes",
    "item_error",
    "texts_of",
    "timing_headers",
    "usage_of",
]

Text = Annotated[str, StringConstraints(min_length=1)]

_CHARACTERS_A_TOKEN = 32
"""More than this, on average, is no text; bounds the work of counting a text's tokens."""


class TextsRequest(BaseModel):
    """Texts for a model."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    input: Text | Annotated[list[Text], Field(min_length=1)]
    """One text or a list of texts."""
    model: str | None = None
    """Name of the model; may be left out where the service has one for this route."""


class ErrorTree(BaseModel):
    """Why a text has no answer."""

    message: str
    type: str
    param: str | None
    code: str | None


class Usage(BaseModel):
    """Tokens that the model read."""

    prompt_tokens: int
    total_tokens: int


def texts_of(query: TextsRequest, *, max_inputs: int) -> list[str]:
    """The texts of a request; ApiError where there are too many."""
    texts = [query.input] if isinstance(query.input, str) else query.input
    check_count(len(texts), part="input", max_inputs=max_inputs)
    return texts


async def answer_texts(
    texts: Sequence[str], query: TextsRequest, model: Encoder
) -> list[Answer | ServeError]:
    """The answer to each text; a text on which the model failed has the failure instead.

    Raises:
        ApiError: a text cannot be taken, the only one failed, or the model is overloaded.
    """
    where = partial(_param, query)
    check_sizes(texts, model, where)
    return await answer_rows([{"text": text} for text in texts], model, where)


async def answer_rows(
    rows: Sequence[Row], model: Encoder, where: Callable[[int], str]
) -> list[Answer | ServeError]:
    """As `answer_texts` for rows of any task; ``where`` names the part of the request of a row."""
    try:
        answers = await model.submit(rows)
    except QueueFullError as error:
        raise queue_full(error) from None
    except StoppedError as error:
        raise ApiError(503, str(error), code="stopping") from None
    charge_tokens(usage_of(answers).total_tokens)
    _raise_refusals(answers, where)
    return answers


def item_error(index: int, error: ServeError) -> ErrorTree:
    """What stands in place of an answer."""
    failure = ApiError(500, str(error), code="item_failed", param=f"input.{index}")
    return ErrorTree.model_validate(failure.tree())


def usage_of(answers: Sequence[Answer | ServeError]) -> Usage:
    """The tokens of the texts that were answered."""
    num_tokens = sum(answer.num_tokens for answer in answers if isinstance(answer, Answer))
    return Usage(prompt_tokens=num_tokens, total_tokens=num_tokens)


def timing_headers(answers: Sequence[Answer | ServeError]) -> dict[str, str]:
    """Milliseconds of the slowest text, and the largest batch."""
    timings: list[Timing] = [answer.timing for answer in answers if isinstance(answer, Answer)]
    if not timings:
        return {}
    headers = {
        "x-queue-time": f"{max(timing.queue_s for timing in timings) * 1e3:.3f}",
        "x-tokenize-time": f"{max(timing.tokenize_s for timing in timings) * 1e3:.3f}",
        "x-inference-time": f"{max(timing.inference_s for timing in timings) * 1e3:.3f}",
        "x-batch-size": str(max(timing.batch_size for timing in timings)),
    }
    describe_headers(headers)
    return headers


def check_count(num_texts: int, *, part: str, max_inputs: int) -> None:
    """Raises ApiError where ``part`` of a request has more texts than one may have."""
    if num_texts > max_inputs:
        raise ApiError(
            400,
            f"{part} has {num_texts} texts; one request may have {max_inputs}. Split it.",
            code="too_many_inputs",
            param=part,
        )


def check_sizes(
    texts: Sequence[str], model: Encoder | Generator, where: Callable[[int], str]
) -> None:
    """Raises ApiError for a text of more characters than the model's tokens could ever hold."""
    max_tokens = model.max_length
    limit = max_tokens * _CHARACTERS_A_TOKEN
    for index, text in enumerate(texts):
        if limit and len(text) > limit:
            raise ApiError(
                400,
                f"the text has {len(text)} characters; the model takes {max_tokens} tokens, and "
                f"at most {limit} characters. Shorten it.",
                code="text_too_long",
                param=where(index),
            )


def _raise_refusals(answers: Sequence[Answer | ServeError], where: Callable[[int], str]) -> None:
    for index, answer in enumerate(answers):
        if isinstance(answer, RefusedError):
            raise ApiError(400, str(answer), code="invalid_text", param=where(index))
        if isinstance(answer, StoppedError):
            raise ApiError(503, str(answer), code="stopping")
        if isinstance(answer, ServeError) and len(answers) == 1:
            raise ApiError(500, str(answer), code="item_failed", param=where(index))


def _param(query: TextsRequest, index: int) -> str:
    return "input" if isinstance(query.input, str) else f"input.{index}"
