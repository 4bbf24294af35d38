"""Replies of models that write: whole ones, and the events of streamed ones.

OpenAI puts the text of a chat and that of a completion at different places of a tree with a list
of choices, of which this service gives one; here both are the same flat value.
"""

from typing import Annotated

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

__all__ = ["Completion", "Piece", "Usage"]

_Text = Annotated[str, BeforeValidator(lambda text: "" if text is None else text)]
_REASON = AliasPath("choices", 0, "finish_reason")


class Usage(BaseModel):
    """Tokens that the model read and wrote."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Completion(BaseModel):
    """What a model wrote."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    text: _Text = Field(
        validation_alias=AliasChoices(
            AliasPath("choices", 0, "message", "content"), AliasPath("choices", 0, "text")
        )
    )
    finish_reason: str | None = Field(default=None, validation_alias=_REASON)
    """``stop`` where it came to an end, ``length`` where it was cut."""
    usage: Usage = Usage()
    model: str = ""


class Piece(BaseModel):
    """A part of what a model writes; the last ones have no text."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    text: _Text = Field(
        default="",
        validation_alias=AliasChoices(
            AliasPath("choices", 0, "delta", "content"), AliasPath("choices", 0, "text")
        ),
    )
    finish_reason: str | None = Field(default=None, validation_alias=_REASON)
    """Set in the piece after the last text, as in `Completion`."""
    usage: Usage | None = None
    """Set in the very last piece."""

    @property
    def is_empty(self) -> bool:
        """Whether it tells nothing, like the event that only names the role."""
        return not self.text and self.finish_reason is None and self.usage is None

    @model_validator(mode="before")
    @classmethod
    def _has_choices(cls, tree: object) -> object:
        """Every field has a default, so that anything would be a piece without this."""
        if isinstance(tree, dict) and not ({"choices", "text"} & tree.keys()):
            raise ValueError("it has no choices")
        return tree
