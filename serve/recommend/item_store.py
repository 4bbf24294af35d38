"""Items and their vectors in the database. Calls block, and may come from any thread."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, Row, delete, func, insert, or_, select

from serve.recommend.catalogue import Item
from serve.recommend.database import chunked, raise_version
from serve.recommend.tables import ITEMS

__all__ = ["ItemStore", "StoredItem"]


@dataclass(frozen=True, slots=True, eq=False)
class StoredItem:
    """An item with its vector, and which model made it."""

    item: Item
    embedding: NDArray[np.float32] | None
    model: str


class ItemStore:
    """The table of items."""

    def __init__(self, engine: Engine) -> None:
        """Uses the tables that `open_database` made."""
        self._engine = engine

    def count(self) -> int:
        """How many items there are."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(ITEMS)).scalar_one()

    def find(self, ids: Sequence[str]) -> dict[str, StoredItem]:
        """Those of ``ids`` that exist."""
        found: dict[str, StoredItem] = {}
        with self._engine.connect() as connection:
            for chunk in chunked(ids):
                rows = connection.execute(select(ITEMS).where(ITEMS.c.id.in_(chunk)))
                found |= {row.id: _stored(row) for row in rows}
        return found

    def put(self, items: Sequence[StoredItem]) -> None:
        """Adds ``items`` (each id once) or puts them in the place of those of the same id."""
        with self._engine.begin() as connection:
            version = raise_version(connection, "items")
            for chunk in chunked(items):
                ids = [stored.item.id for stored in chunk]
                connection.execute(delete(ITEMS).where(ITEMS.c.id.in_(ids)))
                connection.execute(insert(ITEMS), [_values(item, version) for item in chunk])

    def changed_since(self, version: int) -> Iterator[list[StoredItem]]:
        """Items written after ``version`` of the counter, in lists."""
        query = select(ITEMS).where(ITEMS.c.version > version).order_by(ITEMS.c.id)
        with self._engine.connect().execution_options(yield_per=5000) as connection:
            for partition in connection.execute(query).partitions():
                yield [_stored(row) for row in partition]

    def page(self, *, limit: int, cursor: str, query: str) -> list[Item]:
        """Up to ``limit`` items whose id comes after ``cursor``, in the order of ids.

        With ``query``, those whose id, title or category holds it, whatever its case.
        """
        statement = select(ITEMS).where(ITEMS.c.id > cursor).order_by(ITEMS.c.id).limit(limit)
        if query:
            columns = (ITEMS.c.id, ITEMS.c.title, ITEMS.c.category)
            statement = statement.where(
                or_(*(column.icontains(query, autoescape=True) for column in columns))
            )
        with self._engine.connect() as connection:
            return [_item(row) for row in connection.execute(statement)]


def _values(stored: StoredItem, version: int) -> dict[str, object]:
    item, embedding = stored.item, stored.embedding
    return {
        "id": item.id,
        "title": item.title,
        "text": item.text,
        "category": item.category,
        "published": item.published,
        "embedding": None if embedding is None else embedding.astype("<f4").tobytes(),
        "model": stored.model,
        "version": version,
    }


def _stored(row: Row[tuple[object, ...]]) -> StoredItem:
    vector = None if row.embedding is None else np.frombuffer(row.embedding, "<f4")
    return StoredItem(_item(row), vector, row.model)


def _item(row: Row[tuple[object, ...]]) -> Item:
    return Item(row.id, row.title, row.text, row.category, row.published)
