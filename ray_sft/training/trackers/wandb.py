"""Weights & Biases, at its service or in files that ``wandb sync`` sends later."""

import os
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from ray_sft.core import ConfigError, reason_of
from ray_sft.training.trackers.base import Following, TrackedRun, Tracker

__all__ = ["Wandb"]

_KEY = "WANDB_API_KEY"
_STEP = "training_step"
_PATIENCE_S = 60


class Wandb(Tracker):
    """Follows runs at Weights & Biases. Code and the repository's state are not sent."""

    package: ClassVar[str] = "wandb"

    kind: Literal["wandb"] = "wandb"
    project: str = "ray-sft"
    """The project that runs are part of."""
    entity: str = ""
    """The team or user it belongs to; empty for the key's own."""
    mode: Literal["auto", "online", "offline"] = "auto"
    """``offline`` writes files into the run's folder; ``auto`` is online where WANDB_API_KEY is
    set."""

    def check(self) -> None:
        """See `Tracker.check`."""
        super().check()
        if self.mode == "online" and _KEY not in os.environ:
            raise ConfigError(
                f"trackers: wandb is to be online, but {_KEY} is not set. Set it, or mode: offline."
            )

    def follow(self, run: TrackedRun) -> Following:
        """See `Tracker.follow`.

        Raises:
            ConfigError: the service cannot be reached, or refuses.
        """
        import wandb  # a second, and few runs need it

        mode = self.mode
        if mode == "auto":
            mode = "online" if _KEY in os.environ else "offline"
        try:
            opened = wandb.init(
                project=self.project,
                entity=self.entity or None,
                name=run.title,
                id=run.identity(),
                resume="allow",
                mode=mode,
                dir=str(run.folder),
                config=dict(run.settings),
                settings=wandb.Settings(
                    console="off",
                    silent=True,
                    disable_code=True,
                    disable_git=True,
                    save_code=False,
                    init_timeout=_PATIENCE_S,
                ),
            )
        except (wandb.Error, OSError) as error:
            raise ConfigError(
                f"trackers: wandb cannot follow the run: {reason_of(error)} Set mode: offline, and "
                "send the files later by 'wandb sync'."
            ) from None
        return _Run(opened, failures=(wandb.Error, OSError))


class _Run(Following):
    def __init__(self, opened: Any, *, failures: tuple[type[Exception], ...]) -> None:
        self._opened, self.failures = opened, failures
        # of its own, since a run that goes on repeats steps, which wandb's own count may not
        opened.define_metric(_STEP, hidden=True)
        opened.define_metric("*", step_metric=_STEP)

    def write(self, event: str, step: int, figures: Mapping[str, float]) -> None:
        named = {f"{event}/{name}": value for name, value in figures.items()}
        self._opened.log(named | {_STEP: step})

    def close(self, *, failed: bool) -> None:
        self._opened.finish(exit_code=int(failed))
