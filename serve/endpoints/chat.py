"""`POST /v1/chat/completions`: the next turn of a conversation, at once or as it is made.

Speaks OpenAI's format, so its client libraries work unchanged. A client that leaves frees its
slot at the model's next step.
"""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from ray_sft.core import DataError
from ray_sft.inference import GenerationChunk
from ray_sft.tasks.causal_language_model import encode_prompt
from serve.caller import caller_name
from serve.endpoints.chat_schema import ChatRequest
from serve.endpoints.generation_replies import (
    ChatChoice,
    ChatCompletion,
    ChatDelta,
    FinishReason,
)
from serve.endpoints.logprobs import TokenTexts
from serve.endpoints.replies import EVENTS, Replies, answer, check_length, reply_limit, start
from serve.endpoints.schema import request_body
from serve.errors import ApiError, explain_validation
from serve.metrics import ServiceMetrics
from serve.models import Generator, Models

__all__ = ["ChatFormat", "chat_router"]


class ChatFormat:
    """A reply as OpenAI's chat has it."""

    id_prefix = "chatcmpl"
    whole_object = "chat.completion"
    event_object = "chat.completion.chunk"

    def __init__(self, texts: TokenTexts | None) -> None:
        """With log-probabilities where ``texts`` is given."""
        self._texts = texts

    def opening(self, index: int) -> ChatDelta:
        """Says whose turn it is."""
        return self._event(index, {"role": "assistant", "content": ""})

    def piece(self, index: int, chunk: GenerationChunk) -> ChatDelta:
        """Adds to the reply."""
        return self._event(index, {"content": chunk.text}, chunks=(chunk,))

    def closing(self, index: int, chunk: GenerationChunk) -> ChatDelta:
        """Says why the reply ends."""
        return self._event(index, {}, finish_reason=chunk.finish_reason)

    def whole(self, index: int, chunks: Sequence[GenerationChunk]) -> ChatChoice:
        """The whole turn."""
        text = "".join(chunk.text for chunk in chunks)
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": self._texts.chat(chunks) if self._texts else None,
            "finish_reason": chunks[-1].finish_reason or "stop",
        }

    def _event(
        self,
        index: int,
        delta: dict[str, str],
        *,
        chunks: Sequence[GenerationChunk] = (),
        finish_reason: FinishReason | None = None,
    ) -> ChatDelta:
        return {
            "index": index,
            "delta": delta,
            "logprobs": self._texts.chat(chunks) if self._texts and chunks else None,
            "finish_reason": finish_reason,
        }


def chat_router(models: Models, metrics: ServiceMetrics, *, max_tokens: int) -> APIRouter:
    """The route, asking ``models``; no reply is longer than ``max_tokens``."""
    router = APIRouter(tags=["chat"])

    @router.post(
        "/v1/chat/completions",
        response_model=ChatCompletion,
        responses=EVENTS,
        openapi_extra=request_body(ChatRequest),
        summary="Continue a conversation",
    )
    async def complete(request: Request) -> Response:
        """The assistant's next turn; with ``stream`` as server-sent events ending in [DONE]."""
        try:
            query = ChatRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        name, model = models.generator(query.model, "/v1/chat/completions")
        prompt = _prompt(model, query)
        limit = reply_limit(
            query.limit,
            num_prompt_tokens=len(prompt),
            max_tokens=max_tokens,
            max_length=model.engine.max_length,
            param="max_tokens" if query.max_tokens else "max_completion_tokens",
        )
        requests = query.requests(
            prompt,
            max_tokens=limit,
            top_scores=query.top_scores,
            scope=caller_name(),
        )
        streams = await start(model.engine, requests)
        form = ChatFormat(TokenTexts(model.engine) if query.logprobs else None)
        return await answer(Replies(name, form, len(prompt), streams), query, request, metrics)

    return router


def _prompt(model: Generator, query: ChatRequest) -> list[int]:
    messages = [message.plain() for message in query.messages]
    check_length("".join(message.content for message in messages), model.engine, param="messages")
    try:
        prompt = encode_prompt(messages, model.engine.processor)
    except DataError as error:
        raise ApiError(400, str(error), code="invalid_value", param="messages") from None
    check_length(prompt, model.engine, param="messages")
    return prompt
