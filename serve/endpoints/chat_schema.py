"""What a chat request may hold."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ray_sft.inference import Constraint
from ray_sft.tasks.causal_language_model import Message
from serve.endpoints.generation_schema import GenerationOptions, ResponseFormat, Strict

__all__ = ["ChatMessage", "ChatRequest"]


class TextPart(Strict):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Strict):
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


class ChatRequest(GenerationOptions):
    """A conversation to continue."""

    messages: list[ChatMessage] = Field(min_length=1)
    """The turns so far."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest reply in tokens; without it, what the model and the service allow."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """The newer name of ``max_tokens``; give one of them."""
    logprobs: bool | None = None
    """Whether the log-probability of each token is told: the model's own, before penalties and
    temperature."""
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    """Most probable tokens told beside each; only with ``logprobs``."""
    response_format: ResponseFormat | None = None
    """What the reply must look like: text, any JSON object, or JSON of a schema."""

    @classmethod
    def neutral(cls) -> Mapping[str, tuple[Any, ...]]:
        """See `GenerationOptions.neutral`."""
        return {**super().neutral(), "tools": (None, []), "tool_choice": (None, "none")}

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise PydanticCustomError(
                "two_limits", "give max_tokens or max_completion_tokens, not both"
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError("no_logprobs", "top_logprobs needs logprobs: true")
        if self._formatted() is not None and self.structured_outputs is not None:
            raise PydanticCustomError(
                "two_constraints", "give response_format or structured_outputs, not both"
            )
        return self

    @property
    def limit(self) -> int | None:
        """The longest reply that is asked for."""
        return self.max_tokens or self.max_completion_tokens

    @property
    def constraint(self) -> Constraint | None:
        """See `GenerationOptions.constraint`."""
        return self._formatted() or super().constraint

    @property
    def top_scores(self) -> int | None:
        """See `GenerationRequest.top_scores`."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def _formatted(self) -> Constraint | None:
        form = self.response_format
        if form is None or form.type == "text":
            return None
        schema = form.json_schema.schema_ if form.json_schema else {"type": "object"}
        return Constraint("json_schema", json.dumps(schema))
