"""`POST /v1/tokenize` and `POST /v1/detokenize`: what a model reads of a text, before it is sent.

Counts are those of `usage.prompt_tokens` of the route that asks the model.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ray_sft.core import DataError
from ray_sft.tasks import CausalLanguageModel
from ray_sft.tasks.causal_language_model import Message
from serve.endpoints.chat_schema import ChatMessage
from serve.endpoints.schema import request_body
from serve.endpoints.texts import Text, check_count, check_sizes
from serve.errors import ApiError, explain_validation
from serve.models import Encoder, Generator, Models
from serve.tokens import Offsets, TokenizedText, detokenize, tokenize_messages, tokenize_texts

__all__ = [
    "DetokenizeRequest",
    "DetokenizeResponse",
    "TokenizeRequest",
    "TokenizeResponse",
    "tokenize_router",
]

TokenId = Annotated[int, Field(strict=True, ge=0, lt=1 << 31)]
_Ids = Annotated[list[TokenId], Field(min_length=1)]


class TokenizeRequest(BaseModel):
    """Texts, or a conversation, to tokenize."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    input: Text | Annotated[list[Text], Field(min_length=1)] | None = None
    """One text or a list of texts."""
    messages: Annotated[list[ChatMessage], Field(min_length=1)] | None = None
    """In place of ``input``, for a model that chats: the turns of a conversation."""
    add_special_tokens: bool = True
    """Whether what the model is given around a text is there: its special tokens, its pattern."""
    model: str | None = None
    """Name of the model; may be left out where the service has a single one."""

    @model_validator(mode="after")
    def _one_of_them(self) -> "TokenizeRequest":
        if (self.input is None) == (self.messages is None):
            raise PydanticCustomError("one_input", "give input or messages, one of them")
        if self.messages is not None and not self.add_special_tokens:
            raise PydanticCustomError(
                "template", "messages have what the chat template writes, special tokens included"
            )
        return self


class TextTokens(BaseModel):
    """The tokens of one text."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    index: int
    ids: list[int]
    tokens: list[str]
    """The same tokens as the vocabulary spells them."""
    offsets: Offsets | None
    """First character of each token and the one after its last, as counts of Unicode code points;
    null for a token that is not of the text, or for all where the tokenizer does not tell."""
    count: int


class TokenizeResponse(BaseModel):
    """The tokens of each text, in the order of the request; of a conversation, one list."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    object: Literal["list"] = "list"
    model: str
    max_length: int
    """Tokens that the model reads at most; of a model that chats, its reply included."""
    data: list[TextTokens]


class DetokenizeRequest(BaseModel):
    """Token ids to spell."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    ids: _Ids | Annotated[list[_Ids], Field(min_length=1)]
    """The ids of one text, or a list of such lists."""
    skip_special_tokens: bool = True
    """Whether special tokens are left out of the text."""
    model: str | None = None
    """Name of the model; may be left out where the service has a single one."""

    @property
    def lists(self) -> list[list[int]]:
        """The lists of ids, also where there is one."""
        nested = [one for one in self.ids if isinstance(one, list)]
        return nested or [[one for one in self.ids if isinstance(one, int)]]


class SpelledText(BaseModel):
    """The text of one list of ids."""

    index: int
    text: str


class DetokenizeResponse(BaseModel):
    """A text for each list of ids, in the order of the request."""

    object: Literal["list"] = "list"
    model: str
    data: list[SpelledText]


def tokenize_router(models: Models, *, max_inputs: int) -> APIRouter:
    """The routes, asking the tokenizers of ``models``."""
    router = APIRouter(tags=["tokenize"])
    # one thread: several would each take their turn at the interpreter before the event loop does
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize")

    async def reply(make: Callable[[], BaseModel]) -> Response:
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(worker, lambda: make().model_dump_json())
        return Response(body, media_type="application/json")

    @router.post(
        "/v1/tokenize",
        response_model=TokenizeResponse,
        openapi_extra=request_body(TokenizeRequest),
        summary="Tokenize texts or a conversation",
    )
    async def tokenize(request: Request) -> Response:
        """Token ids, their spelling, their characters and their number, for any model."""
        try:
            query = TokenizeRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        name, model = models.any(query.model)
        read = _reading(query, name, model, max_inputs)
        return await reply(lambda: _tokenized(name, model, read()))

    @router.post(
        "/v1/detokenize",
        response_model=DetokenizeResponse,
        openapi_extra=request_body(DetokenizeRequest),
        summary="Spell token ids as text",
    )
    async def spell(request: Request) -> Response:
        """The text of one list of token ids or of several."""
        try:
            query = DetokenizeRequest.model_validate_json(await request.body())
        except ValidationError as error:
            raise explain_validation(error) from None
        name, model = models.any(query.model)
        check_count(len(query.lists), part="ids", max_inputs=max_inputs)
        return await reply(lambda: _spelled(query, name, model))

    return router


def _reading(
    query: TokenizeRequest, name: str, model: Encoder | Generator, max_inputs: int
) -> Callable[[], list[TokenizedText]]:
    """What is to be done in a thread, once the request is known to be within the limits."""
    if query.messages is not None:
        if not isinstance(model.task, CausalLanguageModel):
            raise ApiError(
                424,
                f"model '{name}' is a {model.task.kind} model, which reads no conversation. Give "
                "input in place of messages.",
                code="wrong_task",
                param="messages",
            )
        messages = [message.plain() for message in query.messages]
        whole = "".join(message.content for message in messages)
        check_sizes([whole], model, lambda _: "messages")
        return partial(_conversation, messages, model)
    assert query.input is not None
    is_single = isinstance(query.input, str)
    texts = [query.input] if isinstance(query.input, str) else query.input
    check_count(len(texts), part="input", max_inputs=max_inputs)
    check_sizes(texts, model, lambda index: "input" if is_single else f"input.{index}")
    return partial(
        tokenize_texts,
        texts,
        model.task,
        model.processor,
        add_special_tokens=query.add_special_tokens,
    )


def _conversation(messages: Sequence[Message], model: Generator | Encoder) -> list[TokenizedText]:
    try:
        return [tokenize_messages(messages, model.processor)]
    except DataError as error:
        raise ApiError(400, str(error), code="invalid_value", param="messages") from None


def _tokenized(
    name: str, model: Encoder | Generator, found: Sequence[TokenizedText]
) -> TokenizeResponse:
    # not checked once more: a megabyte of text is some hundred thousand tokens
    data = [
        TextTokens.model_construct(
            index=index, ids=one.ids, tokens=one.tokens, offsets=one.offsets, count=len(one.ids)
        )
        for index, one in enumerate(found)
    ]
    return TokenizeResponse(model=name, max_length=model.max_length, data=data)


def _spelled(query: DetokenizeRequest, name: str, model: Encoder | Generator) -> DetokenizeResponse:
    data = []
    for index, ids in enumerate(query.lists):
        try:
            text = detokenize(ids, model.processor, skip_special_tokens=query.skip_special_tokens)
        except DataError as error:
            is_single = isinstance(query.ids[0], int)
            param = "ids" if is_single else f"ids.{index}"
            raise ApiError(400, str(error), code="invalid_value", param=param) from None
        data.append(SpelledText(index=index, text=text))
    return DetokenizeResponse(model=name, data=data)
