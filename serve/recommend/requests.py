"""What the recommender's routes take."""

from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from serve.recommend.events import Kind

__all__ = ["EventIn", "EventsRequest", "ItemIn", "ItemsRequest", "RankRequest"]

Id = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Line = Annotated[
    str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$", strip_whitespace=True)
]
LongText = Annotated[str, StringConstraints(max_length=20_000, pattern=r"^[^\x00]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ItemIn(_Strict):
    """Something to recommend."""

    id: Id
    title: Annotated[Line, Field(min_length=1)]
    text: LongText = ""
    """What the item is; read by the models together with the title."""
    category: Line = ""
    """One category, or several with ``|`` between them."""
    published: AwareDatetime | None = None
    """When it appeared; without it the item counts as always there and is never called new."""


class ItemsRequest(_Strict):
    """Items to add, or to put in the place of those of the same id."""

    items: list[ItemIn] = Field(min_length=1)


class EventIn(_Strict):
    """Something a user did."""

    id: Id
    """Chosen by the client: an id that is known already is not counted again."""
    user: Id
    item: Id
    kind: Kind
    value: float | None = Field(default=None, allow_inf_nan=False)
    """The rating; needed where ``kind`` is rating."""
    time: AwareDatetime | None = None
    """When it happened; now, where it is left out."""
    ranking_id: Id | None = None
    """The reply that showed the item."""
    position: int | None = Field(default=None, ge=0, lt=100_000)
    """Its place there, from 0."""

    @model_validator(mode="after")
    def _rating_has_a_value(self) -> "EventIn":
        if self.kind == "rating" and self.value is None:
            raise PydanticCustomError("no_value", "a rating needs a value")
        return self


class EventsRequest(_Strict):
    """Events to keep; each is checked by itself."""

    events: list[dict[str, Any]] = Field(min_length=1)


class RankRequest(_Strict):
    """Whom to recommend what."""

    user: Id | None = None
    history: list[Id] = Field(default=[], max_length=1000)
    """Items that count as liked just now, the last one last, beside the user's stored events."""
    candidates: list[Id] | None = None
    """What may be shown; all items, where it is left out."""
    exclude_seen: bool = True
    """Whether items are left out with which the user did something before; hidden ones always."""
    top_k: int = Field(default=10, ge=1, le=100)
    diversity: float | None = Field(default=None, ge=0.0, le=1.0)
    """0: relevance alone; 1: diversity alone; left out: as the service is set."""
    explain: bool = True
    """Whether reasons, features and contributions are told."""
