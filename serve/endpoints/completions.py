"""`POST /v1/completions`: how a text goes on, in OpenAI's older format.

For models that learned from raw text, and for tools that render conversations by themselves.
"""

from collections import Counter
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from ray_sft.inference import GenerationChunk
from ray_sft.tasks.causal_language_model import encode_text_prompt
from serve.caller import caller_name
from serve.endpoints.completions_schema import CompletionRequest
from serve.endpoints.generation_replies import Completion, CompletionChoice, FinishReason
from serve.endpoints.logprobs import TokenTexts
from serve.endpoints.replies import EVENTS, Replies, answer, check_length, reply_limit, start
from serve.endpoints.schema import request_body
from serve.errors import explain_validation
from serve.metrics import ServiceMetrics
from serve.models import Generator, Models

__all__ = ["CompletionFormat", "completions_router"]

_DEFAULT_TOKENS = 16


class CompletionFormat:
    """A continuation as OpenAI's completions have it."""

    id_prefix = "cmpl"
    whole_object = "text_completion"
    event_object = "text_completion"

    def __init__(self, texts: TokenTexts | None) -> None:
        """With log-probabilities where ``texts`` is given."""
        self._texts = texts
        self._num_characters: Counter[int] = Counter()

    def opening(self, index: int) -> None:
        """Nothing: the first event has text."""
        del index

    def piece(self, index: int, chunk: GenerationChunk) -> CompletionChoice:
        """Adds to the continuation."""
        return self._choice(index, (chunk,), finish_reason=None)

    def closing(self, index: int, chunk: GenerationChunk) -> CompletionChoice:
        """Says why the continuation ends."""
        return self._choice(index, (), finish_reason=chunk.finish_reason)

    def whole(self, index: int, chunks: Sequence[GenerationChunk]) -> CompletionChoice:
        """The whole continuation."""
        return self._choice(index, chunks, finish_reason=chunks[-1].finish_reason)

    def _choice(
        self, index: int, chunks: Sequence[GenerationChunk], *, finish_reason: FinishReason | None
    ) -> CompletionChoice:
        text, start = "".join(chunk.text for chunk in chunks), self._num_characters[index]
        self._num_characters[index] += len(text)
        return {
            "index": index,
            "text": text,
            "logprobs": self._texts.completion(chunks, start) if self._texts and chunks else None,
            "finish_reason": finish_reason,
        }


def completions_router(models: Models, metrics: ServiceMetrics, *, max_tokens: int) -> APIRouter:
    """The route, asking ``models``; nothing is continued by more than ``max_tokens``."""
    router = APIRouter(tags=["completions"])

    @router.post(
        "/v1/completions",
        response_model=Completion,
        responses=EVENTS,
        openapi_extra=request_body(CompletionRequest),
        summary="Continue a text",
    )
    async def complete(request: Request) -> Response:
        """What follows a text; with ``stream`` as server-sent events ending in [DONE]."""
        try:
            query = CompletionRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        name, model = models.generator(query.model, "/v1/completions")
        prompts = [_token_ids(model, prompt) for prompt in query.prompts]
        requests = [
            one
            for prompt in prompts
            for one in query.requests(
                prompt,
                max_tokens=_limit(model, query, prompt, max_tokens),
                top_scores=query.logprobs,
                scope=caller_name(),
            )
        ]
        streams = await start(model.engine, requests)
        form = CompletionFormat(None if query.logprobs is None else TokenTexts(model.engine))
        num_tokens = sum(len(prompt) for prompt in prompts)
        return await answer(Replies(name, form, num_tokens, streams), query, request, metrics)

    return router


def _limit(model: Generator, query: CompletionRequest, prompt: list[int], max_tokens: int) -> int:
    length = model.engine.max_length
    usual = min(_DEFAULT_TOKENS, max_tokens, length - len(prompt))
    return reply_limit(
        query.max_tokens or usual,
        num_prompt_tokens=len(prompt),
        max_tokens=max_tokens,
        max_length=length,
        param="max_tokens",
    )


def _token_ids(model: Generator, prompt: str | list[int]) -> list[int]:
    check_length(prompt, model.engine, param="prompt")
    if isinstance(prompt, str):
        prompt = encode_text_prompt(prompt, model.engine.processor)
        check_length(prompt, model.engine, param="prompt")
    return prompt
