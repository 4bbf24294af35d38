"""What comes back for generated text, in OpenAI's shapes: for readers, types and the schema."""

from typing import Literal

from typing_extensions import TypedDict  # typing's has no place in a schema before Python 3.12

__all__ = [
    "ChatChoice",
    "ChatCompletion",
    "ChatDelta",
    "ChatLogprobs",
    "Completion",
    "CompletionChoice",
    "CompletionLogprobs",
    "FinishReason",
    "GenerationUsage",
    "TokenLogprob",
    "TopLogprob",
]

FinishReason = Literal["stop", "length"]


class CachedTokens(TypedDict):
    """Tokens of the prompts that were not read again."""

    cached_tokens: int


class GenerationUsage(TypedDict):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class TopLogprob(TypedDict):
    """A token and its log-probability."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """The same of a token of the reply, with the most probable ones in its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(TypedDict):
    """Log-probabilities of a turn."""

    content: list[TokenLogprob]
    refusal: None


class ChatReply(TypedDict):
    """The assistant's turn."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(TypedDict):
    """One turn of several."""

    index: int
    message: ChatReply
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(TypedDict):
    """The next turn of a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: GenerationUsage


class ChatDelta(TypedDict):
    """What an event adds to a turn."""

    index: int
    delta: dict[str, str]
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class CompletionLogprobs(TypedDict):
    """Log-probabilities of a continuation."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(TypedDict):
    """One continuation; within a stream, what an event adds to it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class Completion(TypedDict):
    """How texts go on."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: GenerationUsage
