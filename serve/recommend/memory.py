"""What the database holds, as arrays in memory, kept up to date with little reading.

A snapshot never changes, so a training can go on with one while requests use newer ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from serve.recommend.catalogue import Catalogue
from serve.recommend.database import Versions
from serve.recommend.events import Event, EventLog, Tastes
from serve.recommend.store import Store

__all__ = ["Memory", "Snapshot"]


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Items and events at one version."""

    catalogue: Catalogue
    log: EventLog
    users: Mapping[str, int]
    """Number of each user in the log; may know users who came later."""
    rankers_version: int


@dataclass(slots=True)
class Memory:
    """The latest snapshot. Use it from one thread at a time."""

    store: Store
    embedding_model: str
    """Vectors of another model count as missing."""
    tastes: Tastes
    max_events: int
    _catalogue: Catalogue = field(default_factory=Catalogue.empty)
    _log: EventLog | None = None
    _users: dict[str, int] = field(default_factory=dict)
    _sequence: int = 0
    _versions: Versions = field(default_factory=Versions)

    def refresh(self) -> Snapshot:
        """A snapshot of what the database holds now."""
        versions = self.store.events.versions()
        if versions.deletions != self._versions.deletions:
            self._log, self._users, self._sequence = None, {}, 0
        new_events = []
        if self._log is None or versions.events != self._versions.events:
            for sequence, events in self.store.events.after(self._sequence, limit=self.max_events):
                self._sequence = sequence
                new_events += events
        # after the events, so that every item of an event is there
        if versions.items != self._versions.items or any(
            event.item not in self._catalogue.numbers for event in new_events
        ):
            self._read_items()
        self._take(new_events)
        self._versions = versions
        assert self._log is not None
        return Snapshot(self._catalogue, self._log, self._users, versions.rankers)

    def _read_items(self) -> None:
        items, vectors = [], []
        for chunk in self.store.items.changed_since(self._versions.items):
            for stored in chunk:
                items.append(stored.item)
                current = stored.model == self.embedding_model
                vectors.append(stored.embedding if current else None)
        self._catalogue = self._catalogue.changed(items, vectors)

    def _take(self, events: list[Event]) -> None:
        log = EventLog.empty(self.tastes) if self._log is None else self._log
        if events:
            numbers = self._catalogue.numbers
            users = [self._users.setdefault(event.user, len(self._users)) for event in events]
            log = log.extended(events, users=users, items=[numbers[e.item] for e in events])
            log = log.latest(self.max_events)
        self._log = log
