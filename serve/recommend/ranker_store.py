"""Trained rankers in the database. Calls block, and may come from any thread."""

from dataclasses import asdict, dataclass

from sqlalchemy import Engine, insert, select

from serve.recommend.database import raise_version
from serve.recommend.tables import RANKERS

__all__ = ["RankerStore", "StoredRanker"]


@dataclass(frozen=True, slots=True)
class StoredRanker:
    """The outcome of a training; without text the fixed weights were kept."""

    time: float
    text: str | None
    sha256: str | None
    figures: dict[str, object]


class RankerStore:
    """The table of rankers."""

    def __init__(self, engine: Engine) -> None:
        """Uses the tables that `open_database` made."""
        self._engine = engine

    def add(self, ranker: StoredRanker) -> None:
        """Makes ``ranker`` the latest."""
        with self._engine.begin() as connection:
            raise_version(connection, "rankers")
            connection.execute(insert(RANKERS).values(asdict(ranker)))

    def latest(self) -> StoredRanker | None:
        """The last one that was added."""
        query = select(RANKERS).order_by(RANKERS.c.sequence.desc()).limit(1)
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return StoredRanker(row.time, row.text, row.sha256, row.figures) if row else None
