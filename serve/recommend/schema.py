"""What the recommender's routes take and reply."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from serve.recommend.events import Kind
from serve.recommend.ranker import RankerKind

__all__ = [
    "EventIn",
    "EventsReply",
    "EventsRequest",
    "Figure",
    "ItemIn",
    "ItemOut",
    "ItemsPage",
    "ItemsReply",
    "ItemsRequest",
    "RankReply",
    "RankRequest",
    "RankedOut",
    "ReasonOut",
    "RejectedEvent",
    "StatusReply",
    "TrainReply",
    "UserDeleted",
    "UserOut",
    "UsersPage",
]

Id = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Line = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
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


class ItemsReply(BaseModel):
    """How many items were new, differed, or were known as they are."""

    added: int
    changed: int
    unchanged: int
    total: int


class ItemOut(BaseModel):
    """An item of the catalogue."""

    id: str
    title: str
    text: str
    category: str
    published: AwareDatetime | None


class ItemsPage(BaseModel):
    """Items in the order of their ids; ``next_cursor`` is None on the last page."""

    items: list[ItemOut]
    next_cursor: str | None


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


class RejectedEvent(BaseModel):
    """An event that was not kept, and why."""

    index: int
    reason: str


class EventsReply(BaseModel):
    """What became of the events."""

    accepted: int
    duplicates: int
    rejected: list[RejectedEvent]


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


class ReasonOut(BaseModel):
    """Why an item is shown."""

    kind: Literal["similar", "together", "category", "popular", "new"]
    text: str


class RankedOut(BaseModel):
    """One place of a ranking."""

    id: str
    title: str
    category: str
    score: float
    """Comparable within one reply only."""
    rank: int
    """From 1, after diversity."""
    rank_by_relevance: int
    """From 1, before diversity."""
    rank_by_popularity: int
    """From 1, among all candidates, by what is popular now."""
    text_score: float
    """Cosine to the profile of what the user liked, the latest counting most."""
    reasons: list[ReasonOut] = []
    features: dict[str, float] = {}
    contributions: dict[str, float] = {}
    """What each feature adds to the score."""


class RankReply(BaseModel):
    """A ranking."""

    ranking_id: str
    """To be sent back with the events that follow from it."""
    user: str | None
    cold_start: bool
    """Nothing is known that the user likes: the order is by popularity and age."""
    ranker: RankerKind
    items: list[RankedOut]
    num_candidates: int
    intra_list_diversity: float
    """Mean of 1 - cosine over the pairs of the list."""
    baseline_diversity: float
    """The same for the list by relevance alone."""


class UserOut(BaseModel):
    """A user who has events."""

    user: str
    num_events: int
    last_event: AwareDatetime


class UsersPage(BaseModel):
    """Users, those of the latest events first."""

    users: list[UserOut]


class UserDeleted(BaseModel):
    """What was deleted. A trained ranker keeps what it learnt until the next training."""

    user: str
    events: int
    rankings: int


class Figure(BaseModel):
    """How well one way of ranking does on the users' later likes."""

    ndcg_at_10: float
    ndcg_low: float
    """Lower end of the 95% confidence interval, by resampling users."""
    ndcg_high: float
    recall_at_10: float
    coverage_at_10: float
    """Share of all items that anyone was shown."""


class TrainReply(BaseModel):
    """The outcome of a training."""

    ranker: RankerKind
    """What ranks from now on."""
    reason: str
    """Why."""
    num_queries: int
    """Moments that were learnt from."""
    num_users: int
    """Users on whose later likes the figures were measured."""
    figures: dict[str, Figure] = {}
    """Of ``ranker`` (the trained one), ``weights``, ``popularity`` and ``item_knn``."""
    seconds: float


class StatusReply(BaseModel):
    """What the recommender knows."""

    items: int
    items_without_vector: int
    """Until their vectors are made, these are found by behaviour only."""
    events: int
    users: int
    ranker: RankerKind
    ranker_problem: str | None
    """Why a stored ranker is not used."""
    trained: AwareDatetime | None
    training: bool
    last_training: TrainReply | None
    embedding_model: str
    ranking_model: str | None
    database: str
