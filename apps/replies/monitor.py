"""Replies of the opinion monitor: topics, windows of time, items and alerts; times are in UTC."""

from datetime import datetime

from pydantic import AliasChoices, BaseModel, Field, model_validator

__all__ = ["Alert", "Alerts", "Item", "Items", "Posted", "Topic", "Topics", "Window", "Windows"]


class Topic(BaseModel):
    """What is talked about, and how much."""

    topic: str
    num_items: int
    net_sentiment: float | None = None
    """Share of positive items minus share of negative ones, -1 to 1."""
    last_time: datetime | None = None


class Topics(BaseModel):
    """The reply of ``/v1/monitor/topics``."""

    topics: list[Topic]


class Window(BaseModel):
    """A span of time of one topic."""

    start: datetime
    count: int
    negative: int = 0
    neutral: int = 0
    positive: int = 0
    net_sentiment: float | None = None
    """None where the window holds nothing."""
    low: float | None = None
    high: float | None = None


class Windows(BaseModel):
    """The reply of ``/v1/monitor/windows``, the earliest first."""

    topic: str
    bucket_s: float
    windows: list[Window]


class Item(BaseModel):
    """A text with its sentiment."""

    id: str
    time: datetime
    text: str
    source: str | None = None
    topics: list[str] = []
    polarity: str | None = None
    """What its most probable sentiment counts as: negative, neutral or positive."""
    sentiment: dict[str, float] = {}
    """Probability by label."""


class Items(BaseModel):
    """The reply of ``/v1/monitor/items``, the newest first."""

    items: list[Item]
    next: str | None = Field(default=None, validation_alias=AliasChoices("next_cursor", "next"))
    """Where the next page begins; None after the last."""


class Alert(BaseModel):
    """A change that the monitor found."""

    id: str
    topic: str
    start: datetime
    end: datetime | None = None
    """None while it goes on."""
    kind: str
    severity: str = ""
    count: int = 0
    """Items of its most unusual window."""
    negative: int = 0
    """Negative ones among them."""
    expected_share: float | None = None
    """Share of negative items that was usual before."""
    share: float | None = None
    acknowledged: bool = False


class Alerts(BaseModel):
    """The reply of ``/v1/monitor/alerts``: under a name, or the bare list."""

    alerts: list[Alert]

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return {"alerts": value} if isinstance(value, list) else value


class Rejected(BaseModel):
    """An item that was not taken, and why."""

    reason: str


class Posted(BaseModel):
    """What became of items that were sent."""

    accepted: int
    duplicates: int = 0
    """Known before."""
    rejected: list[Rejected] = []
