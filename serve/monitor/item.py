"""An item as its sender describes it."""

from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from serve.monitor.times import parse_time

__all__ = ["Item"]


def _storable(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("nul_character", "holds a NUL character, which cannot be stored")
    return text


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    AfterValidator(_storable),
]
Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1),
    AfterValidator(_storable),
]
Time = Annotated[
    int,
    BeforeValidator(parse_time),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}]}),
]


class Item(BaseModel):
    """A piece of news or a post."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    id: Name
    """The sender's own; an item that comes again under its id is not counted again."""
    time: Time
    """When it was published: ISO 8601 with an offset, or epoch seconds."""
    text: Text
    """What is read for topic and sentiment."""
    topics: tuple[Name, ...] = Field(default=(), max_length=32)
    """What it is about, like the tickers of a post; without any, the model says."""
    source: Annotated[
        str, StringConstraints(strip_whitespace=True, max_length=200), AfterValidator(_storable)
    ] = ""
    """Where it is from."""
