"""`POST /v1/chat/completions`: the next turn of a conversation, at once or as it is made.

Speaks OpenAI's format, so its client libraries work unchanged. A client that leaves frees its
slot at the model's next step.
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import ValidationError

from ray_sft.core import DataError, ServeError
from ray_sft.inference import EngineBusy, GenerationChunk, GenerationRequest, GenerationStream
from ray_sft.tasks.causal_language_model import encode_prompt
from serve.endpoints.chat_schema import ChatRequest
from serve.endpoints.schema import request_body
from serve.errors import ApiError, explain_validation
from serve.metrics import ServiceMetrics
from serve.models import Generator, Models

__all__ = ["Reply", "chat_router", "reply_events"]

logger = logging.getLogger(__name__)

_CHARACTERS_A_TOKEN = 32
_STREAM_HEADERS = {"x-accel-buffering": "no"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply under way."""

    identity: str
    created: int
    model: str
    num_prompt_tokens: int
    stream: GenerationStream

    def event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        """One server-sent event."""
        tree = {
            "id": self.identity,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **more,
        }
        return _sse(tree)

    def delta(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        """One server-sent event that adds to the reply."""
        return self.event(
            [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]
        )

    def usage(self, num_tokens: int) -> dict[str, int]:
        """The token counts."""
        return {
            "prompt_tokens": self.num_prompt_tokens,
            "completion_tokens": num_tokens,
            "total_tokens": self.num_prompt_tokens + num_tokens,
        }


def chat_router(models: Models, metrics: ServiceMetrics, *, max_tokens: int) -> APIRouter:
    """The route, asking ``models``; no reply is longer than ``max_tokens``."""
    router = APIRouter(tags=["chat"])

    @router.post(
        "/v1/chat/completions",
        openapi_extra=request_body(ChatRequest),
        summary="Continue a conversation",
    )
    async def complete(request: Request) -> Response:
        """The assistant's next turn; with ``stream`` as server-sent events ending in [DONE]."""
        try:
            query = ChatRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        name, model = models.generator(query.model)
        reply = _start(name, model, query, max_tokens)
        if not query.stream:
            return await _whole(reply, metrics)
        deadline: asyncio.Timeout = request.state.deadline
        ends_at = deadline.when()
        deadline.reschedule(None)  # the stream ends itself, by an event that says why
        usage_is_wanted = query.stream_options is not None and query.stream_options.include_usage
        return StreamingResponse(
            reply_events(reply, metrics, ends_at=ends_at, with_usage=usage_is_wanted),
            media_type="text/event-stream",
            headers=_STREAM_HEADERS,
        )

    return router


def _start(name: str, model: Generator, query: ChatRequest, max_tokens: int) -> Reply:
    prompt = _prompt(model, query)
    limit = min(max_tokens, model.engine.max_length - len(prompt))
    wanted = query.limit if query.limit is not None else limit
    if wanted > limit:
        raise ApiError(
            400,
            f"max_tokens is {wanted}; after a prompt of {len(prompt)} tokens this service gives "
            f"at most {limit} (its limit is {max_tokens}, the model holds "
            f"{model.engine.max_length}).",
            code="max_tokens_too_large",
            param="max_tokens" if query.max_tokens else "max_completion_tokens",
        )
    try:
        stream = model.engine.submit(
            GenerationRequest(
                prompt_ids=tuple(prompt),
                max_tokens=wanted,
                temperature=query.temperature or 0.0,
                top_k=query.top_k or 0,
                top_p=1.0 if query.top_p is None else query.top_p,
                seed=query.seed or 0,
                stop=query.stops,
            )
        )
    except EngineBusy as error:
        raise ApiError(429, str(error), code="queue_full", headers={"retry-after": "1"}) from None
    except DataError as error:
        raise ApiError(400, str(error), code="invalid_value") from None
    except ServeError as error:
        raise ApiError(503, str(error), code="not_ready") from None
    return Reply(f"chatcmpl-{uuid.uuid4().hex}", int(time.time()), name, len(prompt), stream)


def _prompt(model: Generator, query: ChatRequest) -> list[int]:
    messages = [message.plain() for message in query.messages]
    limit = model.engine.max_length
    num_characters = sum(len(message.content) for message in messages)
    if num_characters > limit * _CHARACTERS_A_TOKEN:
        raise _too_long(f"{num_characters} characters", limit)
    prompt = encode_prompt(messages, model.engine.processor)
    if len(prompt) >= limit:
        raise _too_long(f"{len(prompt)} tokens", limit)
    return prompt


def _too_long(what: str, limit: int) -> ApiError:
    return ApiError(
        400,
        f"the conversation has {what}; the model holds {limit} tokens, its reply included. "
        "Leave out its oldest turns.",
        code="context_length_exceeded",
        param="messages",
    )


async def _whole(reply: Reply, metrics: ServiceMetrics) -> Response:
    texts: list[str] = []
    last = GenerationChunk("", 0, "stop")
    try:
        async for last in reply.stream:
            texts.append(last.text)
    except ServeError as error:
        raise ApiError(
            500, "the model failed on this request.", code="generation_failed"
        ) from error
    finally:
        reply.stream.cancel()
        _record(reply, last, metrics)
    message = {"role": "assistant", "content": "".join(texts), "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": last.finish_reason,
    }
    return JSONResponse(
        {
            "id": reply.identity,
            "object": "chat.completion",
            "created": reply.created,
            "model": reply.model,
            "choices": [choice],
            "usage": reply.usage(last.num_tokens),
        }
    )


async def reply_events(
    reply: Reply,
    metrics: ServiceMetrics,
    *,
    ends_at: float | None,
    with_usage: bool = False,
) -> AsyncIterator[bytes]:
    """The server-sent events of a reply; None: no deadline, else the event loop's time."""
    last = GenerationChunk("", 0, "stop")
    try:
        yield reply.delta({"role": "assistant", "content": ""})
        async for last in _until(reply.stream, ends_at):
            if last.text:
                yield reply.delta({"content": last.text})
        yield reply.delta({}, last.finish_reason)
        if with_usage:
            yield reply.event([], usage=reply.usage(last.num_tokens))
        yield b"data: [DONE]\n\n"
    except TimeoutError:
        error = ApiError(408, "the reply took longer than the service allows.", code="timeout")
        yield _sse({"error": error.tree()})
    except ServeError:
        logger.exception("a streamed reply failed")
        failure = ApiError(500, "the model failed on this request.", code="generation_failed")
        yield _sse({"error": failure.tree()})
    finally:
        reply.stream.cancel()
        _record(reply, last, metrics)


async def _until(stream: GenerationStream, ends_at: float | None) -> AsyncIterator[GenerationChunk]:
    """The chunks; TimeoutError where one is not there in time."""
    chunks = aiter(stream)
    while True:
        try:
            async with asyncio.timeout_at(ends_at):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        yield chunk


def _record(reply: Reply, last: GenerationChunk, metrics: ServiceMetrics) -> None:
    metrics.record_reply(
        reply.model, prompt_tokens=reply.num_prompt_tokens, completion_tokens=last.num_tokens
    )


def _sse(tree: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(tree, ensure_ascii=False).encode() + b"\n\n"
