"""What a request to continue a text may hold."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StrictInt, field_validator
from pydantic_core import PydanticCustomError

from serve.endpoints.generation_schema import GenerationOptions

__all__ = ["MAX_PROMPTS", "CompletionRequest"]

MAX_PROMPTS = 32
_Tokens = Annotated[list[StrictInt], Field(min_length=1)]


class CompletionRequest(GenerationOptions):
    """A text to continue, or several."""

    prompt: str | _Tokens | Annotated[list[str] | list[_Tokens], Field(min_length=1)]
    """A text, its token ids, or a list of either."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest continuation in tokens; default 16, as OpenAI's."""
    logprobs: int | None = Field(default=None, ge=0, le=5)
    """Tells log-probabilities, and this many of the most probable tokens beside each: the model's
    own, before penalties and temperature."""

    @classmethod
    def neutral(cls) -> Mapping[str, tuple[Any, ...]]:
        """See `GenerationOptions.neutral`."""
        return {
            **super().neutral(),
            "echo": (None, False),
            "suffix": (None, ""),
            "best_of": (None, 1),
        }

    @field_validator("prompt")
    @classmethod
    def _are_not_too_many(cls, prompt: Any) -> Any:
        if (
            isinstance(prompt, list)
            and len(prompt) > MAX_PROMPTS
            and not isinstance(prompt[0], int)
        ):
            raise PydanticCustomError(
                "too_many_prompts", "at most {limit} prompts are supported", {"limit": MAX_PROMPTS}
            )
        return prompt

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The texts or token ids, one for each continuation."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if isinstance(prompt[0], int):
            return [prompt]
        return prompt
