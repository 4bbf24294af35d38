"""The contract of a tracker: it is told every figure of a training, and can never stop one.

Trackers run where the run was started, not in workers. A run that goes on after an interruption is
the same run to them; it repeats the steps since its last checkpoint.
"""

import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from ray_sft.core import Config, ConfigError, reason_of

__all__ = ["Followers", "Following", "TrackedRun", "Tracker"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A training as its trackers know it."""

    name: str
    """Of the run within its folder; another one when what decides about it has changed."""
    title: str
    """The recipe and the stage, for people."""
    folder: Path
    """Where it writes; a tracker's own files go below."""
    settings: Mapping[str, Any]
    """What decides about it: nested, of what JSON knows."""

    def identity(self) -> str:
        """What no other run has anywhere, the same whenever this one goes on."""
        path = self.folder / f"{self.name}.tracking-id"
        if not path.is_file():
            path.write_text(uuid.uuid4().hex, encoding="utf-8")
        return path.read_text(encoding="utf-8").strip()


class Following(ABC):
    """A tracker's view of one run, open until it is closed."""

    failures: tuple[type[Exception], ...] = (OSError,)
    """What its methods may raise where the service cannot be reached or refuses."""

    @abstractmethod
    def write(self, event: str, step: int, figures: Mapping[str, float]) -> None:
        """Takes the figures of a ``step`` or an ``evaluation``."""

    @abstractmethod
    def close(self, *, failed: bool) -> None:
        """Ends the view of a run that is finished, or that ``failed``."""


class Tracker(Config, ABC):
    """A service that keeps the figures of runs. Subclasses are frozen values with a ``kind``."""

    package: ClassVar[str]
    """What has to be installed."""

    kind: str

    def check(self) -> None:
        """Raises ConfigError where the tracker cannot work on this machine; connects to nothing."""
        if find_spec(self.package) is None:
            raise ConfigError(
                f"trackers: {self.kind} needs the package '{self.package}', which is not "
                "installed. Run: pip install 'ray-sft[tracking]'"
            )

    @abstractmethod
    def follow(self, run: TrackedRun) -> Following:
        """Opens the view of a run; one that was followed before goes on."""


class Followers:
    """A context in which several trackers follow a run; one that fails is left out from then on."""

    def __init__(self, trackers: Sequence[Tracker], run: TrackedRun) -> None:
        """Opens nothing yet."""
        self._trackers, self._run = trackers, run
        self._open: list[tuple[str, Following]] = []

    def __enter__(self) -> "Followers":
        """Opens every tracker, or none where one cannot be opened."""
        try:
            for tracker in self._trackers:
                self._open.append((tracker.kind, tracker.follow(self._run)))
        except BaseException:
            self._ask(lambda one: one.close(failed=True))
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes those that still follow."""
        self._ask(lambda one: one.close(failed=kind is not None))
        self._open.clear()

    def write(self, event: str, step: int, figures: Mapping[str, float]) -> None:
        """Tells all of them."""
        self._ask(lambda one: one.write(event, step, figures))

    def _ask(self, question: Callable[[Following], None]) -> None:
        for kind, following in tuple(self._open):
            try:
                question(following)
            except following.failures as error:
                self._open.remove((kind, following))
                logger.warning(
                    "%s does not follow the run any more: %s. The run goes on; its figures are in "
                    "'%s'.",
                    kind,
                    reason_of(error).rstrip("."),
                    self._run.folder / "metrics.jsonl",
                )
