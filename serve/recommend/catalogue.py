"""The items as arrays in memory: what features and the search for similar texts read.

An item keeps its number for as long as the process lives, so that logs stay valid when items
are added or changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = ["Catalogue", "Item", "categories_of", "item_text"]


@dataclass(frozen=True, slots=True)
class Item:
    """Something that can be recommended."""

    id: str
    title: str
    text: str = ""
    category: str = ""
    """One name, or several with ``|`` between them."""
    published: float | None = None
    """Seconds since 1970, UTC; without it the item counts as always there."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items in the order of their numbers."""

    items: tuple[Item, ...]
    embeddings: NDArray[np.float32]
    """(items, dim), rows of length 1; zeros where an item has no vector yet."""

    @classmethod
    def empty(cls) -> "Catalogue":
        """A catalogue without items."""
        return cls((), np.empty((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of an item's id."""
        return {item.id: number for number, item in enumerate(self.items)}

    @cached_property
    def published(self) -> NDArray[np.float64]:
        """When each item appeared; minus infinity where that is not known."""
        times = [-np.inf if item.published is None else item.published for item in self.items]
        return np.asarray(times, np.float64)

    @cached_property
    def categories(self) -> csr_array:
        """(items, categories), each row summing to 1, or to 0 where an item has none."""
        names = [categories_of(item) for item in self.items]
        columns = {name: i for i, name in enumerate(sorted({n for row in names for n in row}))}
        counts = [len(row) for row in names]
        return csr_array(
            (
                np.repeat([1.0 / max(1, count) for count in counts], counts),
                np.asarray([columns[name] for row in names for name in row], np.int64),
                np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
            ),
            shape=(len(names), len(columns)),
        )

    @cached_property
    def without_vector(self) -> tuple[Item, ...]:
        """Items that have no vector of the model in use."""
        missing = np.flatnonzero(~self.embeddings.any(axis=1))
        return tuple(self.items[number] for number in missing)

    def changed(
        self, items: Sequence[Item], embeddings: Sequence[NDArray[np.float32] | None]
    ) -> "Catalogue":
        """With ``items`` added or put in the place of those of the same id."""
        merged = list(self.items)
        numbers = dict(self.numbers)
        for item in items:
            if item.id in numbers:
                merged[numbers[item.id]] = item
            else:
                numbers[item.id] = len(merged)
                merged.append(item)
        dims = {self.embeddings.shape[1], *(len(row) for row in embeddings if row is not None)}
        matrix = np.zeros((len(merged), max(dims)), np.float32)
        if self.embeddings.shape[1] == matrix.shape[1]:  # else they are of another model
            matrix[: len(self)] = self.embeddings
        for item, row in zip(items, embeddings, strict=True):
            matrix[numbers[item.id]] = 0.0 if row is None else row
        return Catalogue(tuple(merged), matrix)


def categories_of(item: Item) -> list[str]:
    """The names of an item's categories, each once."""
    names = (name.strip() for name in item.category.split("|"))
    return list(dict.fromkeys(name for name in names if name))


def item_text(item: Item) -> str:
    """What the models read of an item."""
    return f"{item.title}. {item.text}" if item.text else item.title
