"""What one visitor of the opinion monitor looks at."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from apps.replies.monitor import Item, Items, Topic

__all__ = ["Desk", "Span"]

_NUM_WINDOWS = 90


@dataclass(frozen=True, slots=True)
class Span:
    """A window or an alert that is looked at more closely."""

    start: datetime
    end: datetime | None
    """None while it goes on."""

    @classmethod
    def parse(cls, start: str, end: str) -> Self | None:
        """The span between two texts; None where they are no times."""
        try:
            return cls(_utc(start), _utc(end))
        except ValueError:
            return None


@dataclass(slots=True)
class Desk:
    """The visitor's choices, and what was drawn for them.

    It is changed in place: a refresh that began before a choice was made sees by ``version`` that
    what it fetched is no longer wanted.
    """

    topic: str = ""
    """Empty: the first there is."""
    bucket_s: int = 86_400
    span: Span | None = None
    """None: the latest items."""
    sentiment: str = ""
    """Only items of this sentiment are shown; empty: all."""
    items: list[Item] = field(default_factory=list)
    """Those that are shown."""
    cursor: str | None = None
    """Where the next page of items begins."""
    is_extended: bool = False
    """Whether more than the first page is shown, which then stays as it is."""
    drawn: object = None
    """What the figures on the page were drawn from; None: everything is to be drawn."""
    version: int = 0

    def renew(self) -> None:
        """Another choice was made: what is fetched for the former is no longer wanted."""
        self.is_extended, self.drawn = False, None
        self.version += 1

    def put(self, page: Items) -> None:
        """The first page of items, unless further ones are shown already."""
        if not self.is_extended:
            self.items, self.cursor = list(page.items), page.next

    def extend(self, page: Items) -> None:
        """The next page of items."""
        self.items, self.cursor = [*self.items, *page.items], page.next
        self.is_extended = True

    def chosen(self, topics: Sequence[Topic]) -> Topic | None:
        """The topic that is looked at; None where there is none."""
        for topic in topics:
            if topic.topic == self.topic:
                return topic
        return topics[0] if topics else None

    def chart_start(self, last: datetime | None) -> datetime | None:
        """The beginning of the chart of a topic whose last item is of ``last``."""
        if last is None:
            return None
        seconds = (last.timestamp() // self.bucket_s - _NUM_WINDOWS + 1) * self.bucket_s
        return datetime.fromtimestamp(max(seconds, 0.0), UTC)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
