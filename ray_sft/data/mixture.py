"""Samples of several tasks under one range of ids, so that one plan orders them all.

The first task's samples come first, then the second's, and so on. A step holds samples of all
tasks as the epoch's permutation has mixed them; each of its micro-batches is of one task.

Experience replay (Rolnick et al. 2019, arXiv:1811.11682, section 3; for training in epochs) is a
matter of weights: samples of earlier trainings stand behind those of the task and are drawn anew
each epoch, the same number from each of those trainings.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ray_sft.data.store import SampleStore
from ray_sft.tasks import Array, Example

__all__ = ["Mixture"]


class Mixture:
    """The stores of a run's tasks, read by global sample id."""

    def __init__(
        self,
        stores: Mapping[str, SampleStore],
        earlier: Mapping[str, Sequence[SampleStore]] | None = None,
        *,
        replay: float = 0.0,
    ) -> None:
        """The samples of ``stores``, which are named by task, and of ``earlier`` trainings of it.

        An epoch has about ``replay`` times as many samples of the earlier ones together.
        """
        self._names: list[str] = []
        self._stores: list[SampleStore] = []
        weights: list[Array] = []
        for name, store in stores.items():
            former = [one for one in (earlier or {}).get(name, ()) if replay and len(one)]
            self._names += [name] * (1 + len(former))
            self._stores += [store, *former]
            drawn = replay * store.weights.sum() / max(1, len(former))
            weights.append(store.weights)
            weights += [one.weights * (drawn / one.weights.sum()) for one in former]
        self._ends = np.cumsum([len(store) for store in self._stores])
        self.lengths: Array = np.concatenate([store.lengths for store in self._stores])
        self.weights: Array = np.concatenate(weights)

    def by_task(self, samples: Array) -> dict[str, Array]:
        """The ids of ``samples`` by task, in the order of the tasks; tasks without one left out."""
        names = np.array(self._names)[np.searchsorted(self._ends, samples, side="right")]
        return {
            name: samples[names == name]
            for name in dict.fromkeys(self._names)
            if (names == name).any()
        }

    def siblings(self, sample: int) -> range:
        """The ids of all samples of the task, and of the training, that ``sample`` belongs to."""
        return self._ids(self._place(sample))

    def examples(self, samples: Sequence[int]) -> list[Example]:
        """The examples of some ids, in that order."""
        found = []
        for sample in samples:
            place = self._place(sample)
            found += self._stores[place].examples([sample - self._ids(place).start])
        return found

    def _place(self, sample: int) -> int:
        """Which store a sample belongs to."""
        return int(np.searchsorted(self._ends, sample, side="right"))

    def _ids(self, place: int) -> range:
        return range(int(self._ends[place - 1]) if place else 0, int(self._ends[place]))
