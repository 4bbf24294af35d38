"""Calls to a model that writes: the next turn of a conversation, the rest of a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

from apps.client.call import Call, StreamCall, Tree, given, parsed, post
from apps.client.endpoint import endpoint, stream_endpoint
from apps.replies.generation import Completion, Piece

__all__ = ["Generation", "GenerationCalls", "Message"]

_CHAT, _COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Generation(TypedDict, total=False):
    """How a model writes; what is left out is as the service has it."""

    model: str | None
    """Its name; may be left out where the service has one that writes."""
    max_tokens: int | None
    temperature: float | None
    """0 always takes the most probable token."""
    top_p: float | None
    top_k: int | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    stop: str | list[str] | None
    """The text ends before the first of these."""
    structured_outputs: Mapping[str, object] | None
    """What the text must look like: one of ``json`` (a schema), ``regex``, ``choice``,
    ``grammar``."""


class GenerationCalls:
    """``/v1/chat/completions`` and ``/v1/completions``."""

    @endpoint
    def chat(self, messages: Sequence[Message], **options: Unpack[Generation]) -> Call[Completion]:
        """The next turn of a conversation; see `Generation` for the options.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return post(_CHAT, parsed(Completion), messages=_turns(messages), **options)

    @stream_endpoint
    def stream_chat(
        self, messages: Sequence[Message], **options: Unpack[Generation]
    ) -> StreamCall[Piece]:
        """The next turn of a conversation, piece by piece as the model writes it."""
        return _streamed(_CHAT, {"messages": _turns(messages), **options})

    @endpoint
    def completions(self, prompt: str, **options: Unpack[Generation]) -> Call[Completion]:
        """How a text goes on; see `Generation` for the options.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return post(_COMPLETIONS, parsed(Completion), prompt=prompt, **options)

    @stream_endpoint
    def stream_completions(self, prompt: str, **options: Unpack[Generation]) -> StreamCall[Piece]:
        """How a text goes on, piece by piece as the model writes it."""
        return _streamed(_COMPLETIONS, {"prompt": prompt, **options})


def _streamed(path: str, body: Tree) -> StreamCall[Piece]:
    with_usage = {"stream": True, "stream_options": {"include_usage": True}}
    return StreamCall(path, given({**body, **with_usage}), _piece)


def _piece(data: str) -> Piece | None:
    piece = Piece.model_validate_json(data)
    return None if piece.is_empty else piece


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
