"""What is asked and answered about entities in a text."""

from typing import Self

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

__all__ = ["Entity", "EntityRequest", "EntityResponse"]


class EntityRequest(BaseModel):
    """A text, or its words where they are known."""

    text: str | None = Field(default=None, min_length=1)
    tokens: list[str] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.text is None) == (self.tokens is None):
            raise PydanticCustomError("one_input", "give text or tokens, one of them")
        return self


class Entity(BaseModel):
    """A run of words of one type."""

    label: str
    start: int
    """Its first character (a Unicode code point) in the text; of words, in ``" ".join(tokens)``."""
    end: int
    """The character after its last."""
    first_word: int
    last_word: int
    score: float
    """Mean probability of its words' tags."""


class EntityResponse(BaseModel):
    """The entities of a text in order; they do not overlap."""

    entities: list[Entity]
    loss_sum: float = 0.0
    """Negative log-likelihood of the right tags in nats; 0 where the request has none."""
