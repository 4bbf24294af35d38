"""TensorBoard's event files in the run's folder; every run has them."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from ray_sft.training.trackers.base import Following, TrackedRun, Tracker

__all__ = ["Tensorboard"]


class Tensorboard(Tracker):
    """Writes ``tensorboard/`` beside the run's metrics."""

    package: ClassVar[str] = "tensorboard"

    kind: Literal["tensorboard"] = "tensorboard"

    def follow(self, run: TrackedRun) -> Following:
        """See `Tracker.follow`."""
        return _Board(run)


class _Board(Following):
    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter  # seconds

        self._writer = SummaryWriter(str(run.folder / "tensorboard"))

    def write(self, event: str, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(f"{event}/{name}", value, step)

    def close(self, *, failed: bool) -> None:
        del failed
        self._writer.close()
