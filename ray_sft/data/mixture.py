"""Samples of several tasks under one range of ids, so that one plan orders them all.

The first task's samples come first, then the second's, and so on. A step holds samples of all
tasks as the epoch's permutation has mixed them; each of its micro-batches is of one task.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ray_sft.data.store import SampleStore
from ray_sft.tasks import Array, Example

__all__ = ["Mixture"]


class Mixture:
    """The stores of a run's tasks, read by global sample id."""

    def __init__(self, stores: Mapping[str, SampleStore]) -> None:
        """The samples of ``stores``, which are named by task."""
        self._stores = list(stores.values())
        self._names = list(stores)
        self._ends = np.cumsum([len(store) for store in self._stores])
        self.lengths: Array = np.concatenate([store.lengths for store in self._stores])
        self.weights: Array = np.concatenate([store.weights for store in self._stores])

    def by_task(self, samples: Array) -> dict[str, Array]:
        """The ids of ``samples`` by task, in the order of the tasks; tasks without one left out."""
        places = np.searchsorted(self._ends, samples, side="right")
        return {
            name: samples[places == place]
            for place, name in enumerate(self._names)
            if (places == place).any()
        }

    def siblings(self, sample: int) -> range:
        """The ids of all samples of the task that ``sample`` belongs to."""
        return self._ids(self._place(sample))

    def examples(self, samples: Sequence[int]) -> list[Example]:
        """The examples of some ids, in that order."""
        found = []
        for sample in samples:
            place = self._place(sample)
            found += self._stores[place].examples([sample - self._ids(place).start])
        return found

    def _place(self, sample: int) -> int:
        """Which task a sample belongs to."""
        return int(np.searchsorted(self._ends, sample, side="right"))

    def _ids(self, place: int) -> range:
        return range(int(self._ends[place - 1]) if place else 0, int(self._ends[place]))
