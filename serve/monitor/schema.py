"""What the monitor tells, as its routes and its webhook send it. Times are ISO 8601 in UTC."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = [
    "Alert",
    "ItemPage",
    "Polarity",
    "Receipt",
    "RejectedItem",
    "Severity",
    "StoredItem",
    "TopicList",
    "TopicSummary",
    "WebhookTest",
    "Window",
    "WindowList",
]

Polarity = Literal["negative", "neutral", "positive"]
Severity = Literal["low", "medium", "high"]


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class RejectedItem(_Told):
    """An item that was not taken, and why."""

    line: int
    """Its place in the request, from 1."""
    id: str | None
    reason: str


class Receipt(_Told):
    """What became of the items of a request; what is accepted is on disk."""

    accepted: int
    duplicates: int
    """Items whose id was known already; the first that came with an id stays."""
    rejected: list[RejectedItem]


class TopicSummary(_Told):
    """A topic at a glance."""

    topic: str
    num_items: int
    net_sentiment: float
    """Share of positive items less that of negative ones."""
    num_alerts: int
    last_time: str


class TopicList(_Told):
    """Topics, those with most items first."""

    topics: list[TopicSummary]


class Window(_Told):
    """The counts of one bucket of time."""

    start: str
    count: int
    negative: int
    neutral: int
    positive: int
    net_sentiment: float | None
    """Null where there is no item."""
    low: float | None
    """Lower bound of the net sentiment, with 95 percent credibility."""
    high: float | None
    """Upper bound."""
    alert: str | None
    """Id of the alert that covers the bucket."""


class WindowList(_Told):
    """Buckets without gaps, in order of time."""

    topic: str
    bucket_s: int
    windows: list[Window]


class StoredItem(_Told):
    """An item with the model's reading of it."""

    id: str
    time: str
    text: str
    source: str
    topics: list[str]
    """What it counts for: the topics it came with, else the model's."""
    topic: str
    """The model's topic."""
    topic_score: float
    label: str
    """The most probable sentiment."""
    polarity: Polarity
    """What the label counts as."""
    sentiment: dict[str, float]
    """Probability by sentiment."""
    received: str


class ItemPage(_Told):
    """Items, newest first."""

    items: list[StoredItem]
    next_cursor: str | None
    """Asks for what follows; null at the end."""


class Alert(_Told):
    """A surge of negative opinion; the counts are those of its most unusual bucket."""

    id: str
    topic: str
    start: str
    end: str | None
    """Null while it is up."""
    kind: Literal["negative_surge"] = "negative_surge"
    severity: Severity
    """``medium`` from a score of 6 on, ``high`` from 10 on."""
    count: int
    negative: int
    expected_share: float
    """Share of negative items that the past leads to expect."""
    share: float
    score: float
    """Minus the decimal logarithm of the probability of so many negative items."""
    volume_score: float
    """Standard deviations by which there are more negative items than usual."""
    evidence: list[str]
    """Ids of its surest negative items."""
    acknowledged: bool


class WebhookTest(_Told):
    """Outcome of a test message."""

    delivered: bool
    error: str | None
    """Why it was not delivered."""
