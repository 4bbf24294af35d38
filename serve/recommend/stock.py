"""The keeping of items: what is new is embedded once, what changed again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ray_sft.core import ServeError
from serve.errors import ApiError
from serve.recommend.catalogue import Item, item_text
from serve.recommend.item_store import ItemStore, StoredItem
from serve.recommend.schema import ItemsReply
from serve.recommend.work import Worker

__all__ = ["Embed", "Stock"]

logger = logging.getLogger(__name__)

Embed: TypeAlias = Callable[[Sequence[str]], Awaitable[NDArray[np.float32]]]
"""Texts to (texts, dim), rows of length 1."""

_EMBEDDED_AT_ONCE = 64


class Stock:
    """Writes items with their vectors. Use it from one event loop."""

    def __init__(
        self,
        store: ItemStore,
        *,
        worker: Worker,
        embed: Embed,
        fingerprint: str,
        max_items: int,
    ) -> None:
        """``worker`` runs what blocks; ``fingerprint`` tells the model of ``embed`` from others."""
        self._store = store
        self._worker = worker
        self._embed = embed
        self._fingerprint = fingerprint
        self._max_items = max_items
        self._renewal: asyncio.Task[None] | None = None

    async def put(self, items: Sequence[Item]) -> ItemsReply:
        """Adds or replaces ``items``, each id once; all of them are kept or none.

        Raises:
            ApiError: 400 where they do not fit into the catalogue.
        """
        known = await self._worker.run(self._store.find, [item.id for item in items])
        added = [item for item in items if item.id not in known]
        changed = [item for item in items if item.id in known and known[item.id].item != item]
        total = await self._worker.run(self._room_for, len(added))
        vectors = {
            item.id: vector
            for item in items
            if (vector := self._reusable(item, known.get(item.id))) is not None
        }
        fresh = [item for item in items if item.id not in vectors]
        for item, vector in zip(fresh, await self._vectors(fresh), strict=True):
            vectors[item.id] = vector
        written = {item.id: item for item in (*changed, *fresh)}
        await self._worker.run(
            self._store.put,
            [StoredItem(item, vectors[id_], self._fingerprint) for id_, item in written.items()],
        )
        return ItemsReply(
            added=len(added),
            changed=len(changed),
            unchanged=len(items) - len(added) - len(changed),
            total=total,
        )

    def renew(self, items: Sequence[Item]) -> None:
        """Begins to make vectors of ``items`` anew, in the background."""
        if items:
            logger.info("%d items get new vectors", len(items))
            self._renewal = asyncio.create_task(self._renew(items))

    async def close(self) -> None:
        """Ends the work in the background; the next start goes on with it."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    def _room_for(self, num_added: int) -> int:
        """How many items there will be."""
        total = self._store.count() + num_added
        if total > self._max_items:
            raise ApiError(
                400,
                f"with {num_added} more the catalogue would have {total} items; it may have "
                f"{self._max_items}. Raise max_items.",
                code="catalogue_full",
                param="items",
            )
        return total

    def _reusable(self, item: Item, stored: StoredItem | None) -> NDArray[np.float32] | None:
        if stored is None or stored.model != self._fingerprint:
            return None
        return stored.embedding if item_text(stored.item) == item_text(item) else None

    async def _vectors(self, items: Sequence[Item]) -> list[NDArray[np.float32]]:
        vectors: list[NDArray[np.float32]] = []
        for start in range(0, len(items), _EMBEDDED_AT_ONCE):
            texts = [item_text(item) for item in items[start : start + _EMBEDDED_AT_ONCE]]
            vectors += list(np.asarray(await self._embed(texts), np.float32))
        return vectors

    async def _renew(self, items: Sequence[Item]) -> None:
        """Little by little, so that requests come in between."""
        for start in range(0, len(items), _EMBEDDED_AT_ONCE):
            some = items[start : start + _EMBEDDED_AT_ONCE]
            try:
                vectors = await self._vectors(some)
                await self._worker.run(self._replace_vectors, some, vectors)
            except (ApiError, ServeError):
                logger.exception("vectors could not be made; the next start goes on with them")
                return
        logger.info("%d items have new vectors", len(items))

    def _replace_vectors(
        self, items: Sequence[Item], vectors: Sequence[NDArray[np.float32]]
    ) -> None:
        """Of items that have not changed in the meantime."""
        current = self._store.find([item.id for item in items])
        self._store.put(
            [
                StoredItem(item, vector, self._fingerprint)
                for item, vector in zip(items, vectors, strict=True)
                if item.id in current and current[item.id].item == item
            ]
        )
