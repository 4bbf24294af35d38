"""What the recommender's routes reply."""

from typing import Literal

from pydantic import AwareDatetime, BaseModel

from serve.recommend.events import Kind
from serve.recommend.ranker import RankerKind

__all__ = [
    "EventsReply",
    "Figure",
    "ItemOut",
    "ItemsPage",
    "ItemsReply",
    "RankReply",
    "RankedOut",
    "ReasonOut",
    "RejectedEvent",
    "StatusReply",
    "TrainReply",
    "UserDeleted",
    "UserEvent",
    "UserEvents",
    "UserOut",
    "UsersPage",
]


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


class RejectedEvent(BaseModel):
    """An event that was not kept, and why."""

    index: int
    reason: str


class EventsReply(BaseModel):
    """What became of the events."""

    accepted: int
    duplicates: int
    rejected: list[RejectedEvent]


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


class UserEvent(BaseModel):
    """Something a user did."""

    id: str
    item: str
    title: str
    kind: Kind
    value: float | None
    time: AwareDatetime
    ranking_id: str | None


class UserEvents(BaseModel):
    """What a user did, the last event first; of one who is not known, nothing."""

    user: str
    events: list[UserEvent]


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
