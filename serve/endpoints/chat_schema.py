"""What a chat request may hold: OpenAI's fields that this service honours, and no others.

An option that is not listed is refused by name. A few that every client library can send are
taken with the one value that means "as usual".
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from ray_sft.tasks.causal_language_model import Message

__all__ = ["ChatMessage", "ChatRequest", "StreamOptions"]

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "logprobs": (None, False),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "tools": (None, []),
    "tool_choice": (None, "none"),
    "response_format": (None, {"type": "text"}),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class TextPart(_Strict):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(_Strict):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    """``developer`` is read as ``system``."""
    content: str | list[TextPart]

    def plain(self) -> Message:
        """The turn as the task knows it."""
        text = self.content
        if not isinstance(text, str):
            text = "".join(part.text for part in text)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


class StreamOptions(_Strict):
    """Options of a streamed reply."""

    include_usage: bool = False
    """Whether a last event with the token counts is sent."""


class ChatRequest(_Strict):
    """A conversation to continue."""

    messages: list[ChatMessage] = Field(min_length=1)
    """The turns so far."""
    model: str | None = None
    """Name of the model; may be left out where the service has one generator."""
    stream: bool = False
    """Whether the reply is sent as it is made, as server-sent events."""
    stream_options: StreamOptions | None = None
    """Only with ``stream``."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest reply in tokens; without it, what the model and the service allow."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The newer name of ``max_tokens``; give one of them."""
    temperature: float | None = Field(default=None, ge=0.0, le=2.0)
    """0, the default here (OpenAI's is 1), always takes the most probable token."""
    top_p: float | None = Field(default=None, gt=0.0, le=1.0)
    """Draw from the fewest tokens whose probability reaches this; default 1."""
    top_k: int | None = Field(default=None, ge=0)
    """Draw from this many tokens; default 0: all. Not one of OpenAI's options."""
    seed: int | None = Field(default=None, ge=0, lt=1 << 63)
    """Equal requests of equal seed have equal replies; default 0."""
    stop: Annotated[str, Field(min_length=1)] | list[Annotated[str, Field(min_length=1)]] | None = (
        None
    )
    """The reply ends before the first of these, at most four."""

    @model_validator(mode="before")
    @classmethod
    def _take_out_neutral_options(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        return {
            name: value
            for name, value in tree.items()
            if name not in _NEUTRAL or not any(_same(value, usual) for usual in _NEUTRAL[name])
        }

    @field_validator("stop")
    @classmethod
    def _at_most_four(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and len(stop) > 4:
            raise PydanticCustomError("too_many_stops", "at most four stop strings are supported")
        return stop

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise PydanticCustomError(
                "two_limits", "give max_tokens or max_completion_tokens, not both"
            )
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("no_stream", "stream_options needs stream: true")
        return self

    @property
    def limit(self) -> int | None:
        """The longest reply that is asked for."""
        return self.max_tokens or self.max_completion_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


def _same(value: Any, usual: Any) -> bool:
    return bool(value == usual) and isinstance(value, bool) == isinstance(usual, bool)
