"""Replies of the recommender: users, items and rankings with their reasons."""

from pydantic import BaseModel

__all__ = ["History", "PastEvent", "Ranked", "Ranking", "Reason", "Told", "User", "Users"]


class User(BaseModel):
    """Somebody whose events are known."""

    user: str
    num_events: int = 0


class Users(BaseModel):
    """The reply of ``/v1/recommend/users``."""

    users: list[User]


class Reason(BaseModel):
    """Why an item stands where it stands."""

    kind: str
    text: str


class Ranked(BaseModel):
    """An item of a ranking."""

    id: str
    title: str = ""
    category: str | None = None
    score: float
    """Comparable within one ranking only."""
    rank: int
    """From 1."""
    rank_by_popularity: int | None = None
    """From 1; where popularity alone would put it among all candidates."""
    reasons: list[Reason] = []


class Ranking(BaseModel):
    """The reply of ``/v1/recommend/rank``, the best first."""

    ranking_id: str
    cold_start: bool = False
    """Whether nothing is known of the user."""
    ranker: str = ""
    items: list[Ranked]
    intra_list_diversity: float | None = None
    """How unlike the items are to each other, 0 to 1."""
    baseline_diversity: float | None = None
    """The same of the list before diversity was asked for."""


class PastEvent(BaseModel):
    """Something that a user did with an item."""

    item: str
    title: str = ""
    kind: str


class History(BaseModel):
    """What a user did, the latest first."""

    events: list[PastEvent]


class Refused(BaseModel):
    """An event that was not kept, and why."""

    reason: str


class Told(BaseModel):
    """What became of events that were sent."""

    rejected: list[Refused] = []
