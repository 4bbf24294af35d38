"""Replies under way: started together, read whole or as events, and cancelled with their client.

A route says what its events look like (`ReplyFormat`); everything else is the same for all.
"""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from ray_sft.core import DataError, ServeError
from ray_sft.inference import (
    EngineBusy,
    GenerationChunk,
    GenerationRequest,
    GenerationStream,
    TextEngine,
)
from serve.caller import charge_tokens
from serve.endpoints.generation_replies import GenerationUsage
from serve.endpoints.generation_schema import GenerationOptions
from serve.errors import ApiError
from serve.metrics import ServiceMetrics
from serve.tracing import describe_headers

__all__ = [
    "EVENTS",
    "Replies",
    "ReplyFormat",
    "answer",
    "check_length",
    "read_whole",
    "reply_events",
    "reply_limit",
    "start",
    "timing_headers",
]

logger = logging.getLogger(__name__)

_CHARACTERS_A_TOKEN = 32
"""More than this, on average, is no text; bounds the work of counting a prompt's tokens."""
_STREAM_HEADERS = {"x-accel-buffering": "no"}

EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
"""What a route that streams declares beside its whole reply."""

Tree = dict[str, Any]


class ReplyFormat(Protocol):
    """How a route shows a reply; every choice has its number and a reason to end, or None."""

    id_prefix: str
    whole_object: str
    event_object: str

    def opening(self, index: int) -> Mapping[str, Any] | None:
        """The choice of an event before the first text, where there is one."""

    def piece(self, index: int, chunk: GenerationChunk) -> Mapping[str, Any]:
        """The choice of an event that adds text."""

    def closing(self, index: int, chunk: GenerationChunk) -> Mapping[str, Any]:
        """The choice of the last event, which gives the reason to end."""

    def whole(self, index: int, chunks: Sequence[GenerationChunk]) -> Mapping[str, Any]:
        """The choice of a reply at once."""


@dataclass(frozen=True, slots=True)
class Replies:
    """One stream for each choice of a response; those of a prompt follow one another."""

    model: str
    form: ReplyFormat
    num_prompt_tokens: int
    """Of all prompts, each counted once."""
    streams: Sequence[GenerationStream]
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def tree(self, kind: str, choices: Sequence[Mapping[str, Any]], **more: Any) -> Tree:
        """A response or an event."""
        return {
            "id": f"{self.form.id_prefix}-{self.identity}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": list(choices),
            **more,
        }

    def event(self, choices: Sequence[Mapping[str, Any]], **more: Any) -> bytes:
        """One server-sent event."""
        return _sse(self.tree(self.form.event_object, choices, **more))

    def usage(self, num_tokens: int) -> GenerationUsage:
        """The token counts."""
        return {
            "prompt_tokens": self.num_prompt_tokens,
            "completion_tokens": num_tokens,
            "total_tokens": self.num_prompt_tokens + num_tokens,
            "prompt_tokens_details": {
                "cached_tokens": sum(stream.num_cached for stream in self.streams)
            },
        }

    def cancel(self) -> None:
        """Ends what is still under way; the slots are free at the model's next step."""
        for stream in self.streams:
            stream.cancel()


def check_length(prompt: str | Sequence[int], engine: TextEngine, *, param: str) -> None:
    """Returns where a prompt, as text or as tokens, leaves room for a reply.

    Raises:
        ApiError: it does not.
    """
    limit = engine.max_length
    is_text = isinstance(prompt, str)
    if len(prompt) <= (limit * _CHARACTERS_A_TOKEN if is_text else limit - 1):
        return
    raise ApiError(
        400,
        f"{param} has {len(prompt)} {'characters' if is_text else 'tokens'}; the model holds "
        f"{limit} tokens, its reply included. Shorten it, or leave out the oldest turns.",
        code="context_length_exceeded",
        param=param,
    )


def reply_limit(
    wanted: int | None, *, num_prompt_tokens: int, max_tokens: int, max_length: int, param: str
) -> int:
    """How many tokens a reply may have.

    Raises:
        ApiError: more are asked for than the service or the model gives.
    """
    limit = min(max_tokens, max_length - num_prompt_tokens)
    if wanted is not None and wanted > limit:
        raise ApiError(
            400,
            f"{param} is {wanted}; after a prompt of {num_prompt_tokens} tokens this service gives "
            f"at most {limit} (its limit is {max_tokens}, the model holds {max_length}).",
            code="max_tokens_too_large",
            param=param,
        )
    return limit if wanted is None else wanted


async def start(
    engine: TextEngine, requests: Sequence[GenerationRequest]
) -> list[GenerationStream]:
    """Starts every request, or none.

    Raises:
        ApiError: the engine refuses one: 400, 429 or 503.
    """
    streams: list[GenerationStream] = []
    try:
        for request in requests:
            streams.append(await _submit(engine, request))
    except EngineBusy as error:
        raise ApiError(429, str(error), code="queue_full", headers={"retry-after": "1"}) from None
    except DataError as error:
        raise ApiError(400, str(error), code="invalid_value") from None
    except ServeError as error:
        raise ApiError(503, str(error), code="not_ready") from None
    finally:
        if len(streams) < len(requests):
            for stream in streams:
                stream.cancel()
    return streams


async def _submit(engine: TextEngine, request: GenerationRequest) -> GenerationStream:
    if request.constraint is None:
        return engine.submit(request)
    # compiling a constraint may take a tenth of a second, in which others want to be served
    return await asyncio.to_thread(engine.submit, request)


async def answer(
    replies: Replies, options: GenerationOptions, request: Request, metrics: ServiceMetrics
) -> Response:
    """The response, whole or streamed."""
    if not options.stream:
        return await _whole(replies, metrics)
    deadline: asyncio.Timeout = request.state.deadline
    ends_at = deadline.when()
    deadline.reschedule(None)  # the stream ends itself, by an event that says why
    return StreamingResponse(
        reply_events(replies, metrics, ends_at=ends_at, with_usage=options.wants_usage),
        media_type="text/event-stream",
        headers=_STREAM_HEADERS,
    )


async def _whole(replies: Replies, metrics: ServiceMetrics) -> Response:
    found = await read_whole(replies, metrics)
    num_tokens = sum(chunks[-1].num_tokens for chunks in found)
    choices = [replies.form.whole(index, chunks) for index, chunks in enumerate(found)]
    return JSONResponse(
        replies.tree(replies.form.whole_object, choices, usage=replies.usage(num_tokens)),
        headers=timing_headers(replies),
    )


async def read_whole(replies: Replies, metrics: ServiceMetrics) -> list[list[GenerationChunk]]:
    """All chunks of every choice, once the last is there; tokens are counted in any case.

    Raises:
        ApiError: the model fails.
    """
    found: list[list[GenerationChunk]] = [[] for _ in replies.streams]
    try:
        for chunks, stream in zip(found, replies.streams, strict=True):
            async for chunk in stream:
                chunks.append(chunk)
    except ServeError as error:
        raise ApiError(
            500, "the model failed on this request.", code="generation_failed"
        ) from error
    finally:
        replies.cancel()
        num_tokens = [chunks[-1].num_tokens if chunks else 0 for chunks in found]
        _record(replies, num_tokens, metrics)
    return found


async def reply_events(
    replies: Replies,
    metrics: ServiceMetrics,
    *,
    ends_at: float | None,
    with_usage: bool = False,
) -> AsyncIterator[bytes]:
    """The server-sent events of a response; None: no deadline, else the event loop's time."""
    form, num_tokens = replies.form, [0] * len(replies.streams)
    try:
        for index in range(len(replies.streams)):
            if opening := form.opening(index):
                yield replies.event([opening])
        async for index, chunk in _until(_merged(replies.streams), ends_at):
            num_tokens[index] = chunk.num_tokens
            if chunk.text or chunk.scores:
                yield replies.event([form.piece(index, chunk)])
            if chunk.finish_reason:
                yield replies.event([form.closing(index, chunk)])
        if with_usage:
            yield replies.event([], usage=replies.usage(sum(num_tokens)))
        yield b"data: [DONE]\n\n"
    except TimeoutError:
        error = ApiError(408, "the reply took longer than the service allows.", code="timeout")
        yield _sse({"error": error.tree()})
    except ServeError:
        logger.exception("a streamed reply failed")
        failure = ApiError(500, "the model failed on this request.", code="generation_failed")
        yield _sse({"error": failure.tree()})
    finally:
        replies.cancel()
        _record(replies, num_tokens, metrics)


async def _merged(
    streams: Sequence[GenerationStream],
) -> AsyncIterator[tuple[int, GenerationChunk]]:
    """The chunks of every stream as they come, with the number of the stream."""
    if len(streams) == 1:  # no task and no queue for what nearly every request asks for
        async for chunk in streams[0]:
            yield 0, chunk
        return
    queue: asyncio.Queue[tuple[int, GenerationChunk] | BaseException | None] = asyncio.Queue()
    tasks = [
        asyncio.create_task(_forward(index, stream, queue)) for index, stream in enumerate(streams)
    ]
    try:
        num_open = len(tasks)
        while num_open:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                num_open -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()


async def _forward(
    index: int,
    stream: GenerationStream,
    queue: "asyncio.Queue[tuple[int, GenerationChunk] | BaseException | None]",
) -> None:
    try:
        async for chunk in stream:
            queue.put_nowait((index, chunk))
        queue.put_nowait(None)
    except ServeError as error:
        queue.put_nowait(error)


async def _until(
    items: AsyncIterator[tuple[int, GenerationChunk]], ends_at: float | None
) -> AsyncIterator[tuple[int, GenerationChunk]]:
    """The items; TimeoutError where one is not there in time."""
    while True:
        try:
            async with asyncio.timeout_at(ends_at):
                item = await anext(items)
        except StopAsyncIteration:
            return
        yield item


def _record(replies: Replies, num_tokens: Sequence[int], metrics: ServiceMetrics) -> None:
    """Counts what was read and written; ``num_tokens`` are those of each choice."""
    metrics.record_reply(
        replies.model,
        prompt_tokens=replies.num_prompt_tokens,
        cached_tokens=sum(stream.num_cached for stream in replies.streams),
        completion_tokens=sum(num_tokens),
    )
    for num, stream in zip(num_tokens, replies.streams, strict=True):
        if stream.started is None or stream.first_token is None or stream.last_token is None:
            continue  # the client left before the first token
        pace = (stream.last_token - stream.first_token) / (num - 1) if num > 1 else None
        metrics.record_pace(
            replies.model,
            queue_s=stream.started - stream.submitted,
            first_token_s=stream.first_token - stream.submitted,
            token_s=pace,
        )
    charge_tokens(replies.num_prompt_tokens + sum(num_tokens))


def timing_headers(replies: Replies) -> dict[str, str]:
    """Milliseconds of the choice that waited longest, and from there on to the end of all."""
    started = [stream.started or stream.submitted for stream in replies.streams]
    waited = max(
        start - stream.submitted for start, stream in zip(started, replies.streams, strict=True)
    )
    headers = {
        "x-queue-time": f"{waited * 1e3:.3f}",
        "x-inference-time": f"{(perf_counter() - min(started)) * 1e3:.3f}",
    }
    describe_headers(headers)
    return headers


def _sse(tree: Tree) -> bytes:
    return b"data: " + json.dumps(tree, ensure_ascii=False).encode() + b"\n\n"
