"""Events and rankings in the database. Calls block, and may come from any thread."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TypeAlias

from sqlalchemy import Engine, delete, func, insert, select

from serve.recommend.database import Versions, chunked, raise_version, read_versions
from serve.recommend.events import Event
from serve.recommend.tables import EVENTS, ITEMS, RANKINGS

__all__ = ["AnsweredRanking", "EventStore", "Ranking", "UserSummary"]

_COLUMNS = [EVENTS.c[field.name] for field in fields(Event)]


@dataclass(frozen=True, slots=True)
class Ranking:
    """What was shown to whom."""

    id: str
    user: str | None
    time: float
    ranker: str
    shown: tuple[tuple[str, float], ...]
    """Item and score, first place first."""


@dataclass(frozen=True, slots=True)
class UserSummary:
    """A user who has events."""

    user: str
    num_events: int
    last_time: float


AnsweredRanking: TypeAlias = tuple[Ranking, list[Event]]
"""A ranking and what its user did with the items it showed."""


class EventStore:
    """The tables of events and rankings."""

    def __init__(self, engine: Engine) -> None:
        """Uses the tables that `open_database` made."""
        self._engine = engine

    def versions(self) -> Versions:
        """The counters of changes."""
        with self._engine.connect() as connection:
            return read_versions(connection)

    def add(self, events: Sequence[Event]) -> list[bool]:
        """For each event whether it is new; one whose id is known is left as it was."""
        with self._engine.begin() as connection:
            raise_version(connection, "events")  # others wait, so no id comes in between
            known: set[str] = set()
            for chunk in chunked(event.id for event in events):
                query = select(EVENTS.c.id).where(EVENTS.c.id.in_(chunk))
                known.update(connection.execute(query).scalars())
            is_new = []
            for event in events:
                is_new.append(event.id not in known)
                known.add(event.id)
            rows = [asdict(event) for event, new in zip(events, is_new, strict=True) if new]
            for values in chunked(rows):
                connection.execute(insert(EVENTS), values)
        return is_new

    def after(self, sequence: int, *, limit: int) -> Iterator[tuple[int, list[Event]]]:
        """The latest ``limit`` events stored after ``sequence``, in lists with the last's number.

        In the order in which they were stored.
        """
        newer = EVENTS.c.sequence > sequence
        with self._engine.connect().execution_options(yield_per=20_000) as connection:
            nth = select(EVENTS.c.sequence).where(newer).order_by(EVENTS.c.sequence.desc())
            first = connection.execute(nth.offset(limit - 1).limit(1)).scalar()
            query = select(EVENTS.c.sequence, *_COLUMNS).where(newer).order_by(EVENTS.c.sequence)
            if first is not None:
                query = query.where(EVENTS.c.sequence >= first)
            for rows in connection.execute(query).partitions():
                yield rows[-1].sequence, [Event(*row[1:]) for row in rows]

    def count(self) -> tuple[int, int]:
        """How many events and users there are."""
        query = select(func.count(), func.count(EVENTS.c.user.distinct())).select_from(EVENTS)
        with self._engine.connect() as connection:
            num_events, num_users = connection.execute(query).one()
        return num_events, num_users

    def users(self, *, limit: int) -> list[UserSummary]:
        """The users of the latest events, the latest first."""
        last = func.max(EVENTS.c.time)
        query = (
            select(EVENTS.c.user, func.count(), last)
            .group_by(EVENTS.c.user)
            .order_by(last.desc(), EVENTS.c.user)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return [UserSummary(*row) for row in connection.execute(query)]

    def of_user(self, user: str, *, limit: int) -> list[tuple[Event, str]]:
        """The latest events of ``user``, the last one first, each with its item's title."""
        query = (
            select(*_COLUMNS, ITEMS.c.title)
            .join(ITEMS, ITEMS.c.id == EVENTS.c.item)
            .where(EVENTS.c.user == user)
            .order_by(EVENTS.c.time.desc(), EVENTS.c.sequence.desc())
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return [(Event(*row[:-1]), row.title) for row in connection.execute(query)]

    def delete_user(self, user: str) -> tuple[int, int]:
        """Deletes everything about ``user``; how many events and rankings there were."""
        with self._engine.begin() as connection:
            raise_version(connection, "events")
            raise_version(connection, "deletions")
            events = connection.execute(delete(EVENTS).where(EVENTS.c.user == user))
            rankings = connection.execute(delete(RANKINGS).where(RANKINGS.c.user == user))
            return events.rowcount, rankings.rowcount

    def add_ranking(self, ranking: Ranking) -> None:
        """Keeps what was shown."""
        with self._engine.begin() as connection:
            connection.execute(insert(RANKINGS).values(asdict(ranking)))

    def delete_rankings(self, *, before: float) -> int:
        """Deletes the rankings older than a time; how many there were."""
        with self._engine.begin() as connection:
            return connection.execute(delete(RANKINGS).where(RANKINGS.c.time < before)).rowcount

    def answered_rankings(self, *, limit: int) -> list[AnsweredRanking]:
        """The rankings to which the latest ``limit`` events refer that are more than being shown.

        Only events of the ranking's own user count.
        """
        events = (
            select(*_COLUMNS)
            .where(EVENTS.c.ranking_id.is_not(None), EVENTS.c.kind != "impression")
            .order_by(EVENTS.c.time.desc())
            .limit(limit)
        )
        answers: dict[str, list[Event]] = {}
        rankings: list[Ranking] = []
        with self._engine.connect() as connection:
            for row in connection.execute(events):
                answers.setdefault(row.ranking_id, []).append(Event(*row))
            for chunk in chunked(answers):
                rows = connection.execute(select(RANKINGS).where(RANKINGS.c.id.in_(chunk)))
                rankings += [
                    Ranking(row.id, row.user, row.time, row.ranker, tuple(map(tuple, row.shown)))
                    for row in rows
                ]
        return [
            (ranking, [event for event in answers[ranking.id] if event.user == ranking.user])
            for ranking in rankings
        ]
