"""The figures of one loaded bundle, under the names that `/metrics` shows at the time.

Two bundles may be loaded for one name: while they are exchanged, and as long as one is a
candidate for the other's place. A name's queue is that of the bundle that was shown last.
"""

from collections.abc import Callable

from serve.metrics import ServiceMetrics
from serve.outcomes import BatchReport

__all__ = ["CANDIDATE", "BundleMetrics"]

CANDIDATE = " (candidate)"
"""Behind a model's name in the figures of a bundle that is not the name's own."""

Count = Callable[[], int]


class BundleMetrics:
    """What one bundle tells; nothing is shown before `show`."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        """Tells ``metrics``."""
        self._metrics = metrics
        self._queued: dict[str, Count] = {}
        self._active: dict[str, Count] = {}
        self._suffix = ""

    def add(self, name: str, *, queued: Count, active: Count | None = None) -> None:
        """A queue of the bundle, and how many conversations it continues where it does."""
        self._queued[name] = queued
        if active is not None:
            self._active[name] = active

    def show(self, suffix: str = "") -> None:
        """Puts the bundle's figures under the names of its queues with ``suffix``."""
        self._suffix = suffix
        for name, count in self._queued.items():
            self._metrics.queued.labels(name + suffix).set_function(count)
        for name, count in self._active.items():
            self._metrics.active.labels(name + suffix).set_function(count)

    def hide(self) -> None:
        """Takes away the queues that `show` has put there."""
        for name in self._queued:
            self._metrics.queued.remove(name + self._suffix)
        for name in self._active:
            self._metrics.active.remove(name + self._suffix)

    def forget(self) -> None:
        """Lets go of the queues, which know this object too: the last reference frees a model."""
        self._queued.clear()
        self._active.clear()

    def record_batch(self, name: str, report: BatchReport) -> None:
        """One batch of the queue ``name``; called from the model's thread."""
        self._metrics.record_batch(name + self._suffix, report)
