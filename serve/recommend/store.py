"""Everything of the recommender that outlives its process, in one database."""

from dataclasses import dataclass
from typing import Self

from sqlalchemy import Engine

from serve.recommend.database import open_database
from serve.recommend.event_store import EventStore
from serve.recommend.item_store import ItemStore
from serve.recommend.ranker_store import RankerStore

__all__ = ["Store"]


@dataclass(frozen=True, slots=True)
class Store:
    """The tables, by what they hold. Calls block, and may come from any thread."""

    items: ItemStore
    events: EventStore
    rankers: RankerStore
    engine: Engine

    @classmethod
    def open(cls, url: str) -> Self:
        """The store in the database of an SQLAlchemy URL; its tables are made if need be.

        Raises:
            ServeError: the URL is wrong or the database cannot be reached.
        """
        engine = open_database(url)
        return cls(ItemStore(engine), EventStore(engine), RankerStore(engine), engine)

    @property
    def kind(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.engine.dialect.name

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()
