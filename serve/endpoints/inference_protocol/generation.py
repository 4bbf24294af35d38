"""Text for text: every row of a request as a prompt of its own, all generated at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError

from ray_sft.core import DataError
from ray_sft.inference import GenerationChunk, GenerationRequest
from ray_sft.tasks import CausalLanguageModel, Row
from ray_sft.tasks.causal_language_model import Message, encode_prompt, encode_text_prompt
from serve.caller import caller_name
from serve.endpoints.completions import CompletionFormat
from serve.endpoints.generation_schema import GenerationOptions
from serve.endpoints.replies import (
    Replies,
    check_length,
    read_whole,
    reply_limit,
    start,
    timing_headers,
)
from serve.errors import ApiError, explain_validation
from serve.metrics import ServiceMetrics
from serve.models import Generator, TranslatedText

__all__ = ["GenerationParameters", "generate", "prompts_of", "read_parameters", "requests_of"]

_OF_OTHER_ROUTES = frozenset(("model", "n", "stream", "stream_options", "user"))
"""Options that a reply of one text for each text has no place for."""


class GenerationParameters(GenerationOptions):
    """The parameters of a request, named as in /v1/completions."""

    max_tokens: int | None = Field(default=None, ge=1)
    """Longest text in tokens; without it, what the model and the service allow."""


def read_parameters(given: Mapping[str, Any]) -> GenerationParameters:
    """The parameters of a request.

    Raises:
        ApiError: one is unknown or has a wrong value.
    """
    for name in given:
        if name in _OF_OTHER_ROUTES:
            raise ApiError(
                400,
                f"'parameters.{name}' is not supported by this route. Leave it out.",
                code="unsupported_parameter",
                param=f"parameters.{name}",
            )
    try:
        return GenerationParameters.model_validate(given)
    except ValidationError as error:
        raise explain_validation(error) from None


def prompts_of(rows: Sequence[Row], model: Generator) -> list[list[int]]:
    """The token ids of each row's text: what somebody says to the model, or what it goes on from.

    Raises:
        ApiError: a text leaves no room for a reply, or the chat template refuses it.
    """
    return [_prompt(row["text"], model, f"inputs.text.{place}") for place, row in enumerate(rows)]


def requests_of(
    prompts: Sequence[list[int]],
    options: GenerationParameters,
    model: Generator,
    *,
    max_tokens: int,
) -> list[GenerationRequest]:
    """What the engine is asked; no reply is longer than ``max_tokens``.

    Raises:
        ApiError: more is asked for.
    """
    found: list[GenerationRequest] = []
    for prompt in prompts:
        limit = reply_limit(
            options.max_tokens,
            num_prompt_tokens=len(prompt),
            max_tokens=max_tokens,
            max_length=model.max_length,
            param="parameters.max_tokens",
        )
        found += options.requests(prompt, max_tokens=limit, top_scores=None, scope=caller_name())
    return found


async def generate(
    name: str,
    model: Generator,
    requests: Sequence[GenerationRequest],
    *,
    metrics: ServiceMetrics,
) -> tuple[list[TranslatedText], dict[str, str]]:
    """The text for each request, and headers that tell the time; leaving frees the slots.

    Raises:
        ApiError: the engine refuses a request, or fails on one.
    """
    num_read = sum(len(request.prompt_ids) for request in requests)
    streams = await start(model.engine, requests)
    replies = Replies(name, CompletionFormat(None), num_read, streams)
    found = await read_whole(replies, metrics)
    return [_whole(chunks) for chunks in found], timing_headers(replies)


def _whole(chunks: Sequence[GenerationChunk]) -> TranslatedText:
    return TranslatedText(
        text="".join(chunk.text for chunk in chunks),
        num_tokens=chunks[-1].num_tokens,
        is_whole=chunks[-1].finish_reason == "stop",
    )


def _prompt(text: str, model: Generator, param: str) -> list[int]:
    assert isinstance(model.task, CausalLanguageModel)
    if model.task.format == "text":
        prompt = encode_text_prompt(text, model.processor)
    else:
        try:
            prompt = encode_prompt([Message(role="user", content=text)], model.processor)
        except DataError as error:
            raise ApiError(400, str(error), code="invalid_value", param=param) from None
    check_length(prompt, model.engine, param=param)
    return prompt
