"""What is known of a candidate beside the bundle that serves: times, failures, likeness."""

import threading
from collections import deque

import numpy as np
from pydantic import Field

from ray_sft.core import Config
from serve.release.asked import Arm
from serve.release.compare import Agreement, AgreementReport, Difference
from serve.release.counters import ReleaseCounters

__all__ = ["ArmReport", "CandidateReport", "Figures", "ShadowReport", "Times", "TimesReport"]

_LAST = 2048
"""Times that the percentiles are taken of."""


class TimesReport(Config):
    """How long the last requests took, in milliseconds; None where there were none."""

    p50_ms: float | None = None
    p95_ms: float | None = None


class Times:
    """The last times, in seconds."""

    def __init__(self) -> None:
        """None yet."""
        self._seconds: deque[float] = deque(maxlen=_LAST)

    def add(self, seconds: float) -> None:
        """One more; the oldest is forgotten."""
        self._seconds.append(seconds)

    def report(self) -> TimesReport:
        """Median and 95th percentile (linear between neighbours)."""
        seconds = list(self._seconds)
        if not seconds:
            return TimesReport()
        p50, p95 = np.percentile(seconds, [50, 95])
        return TimesReport(p50_ms=float(p50) * 1e3, p95_ms=float(p95) * 1e3)


class ArmReport(TimesReport):
    """The requests that one of the two bundles has answered."""

    requests: int = 0
    errors: int = 0
    """Requests of which the model failed on a part at least, or that found the queue full."""


class ShadowReport(Config):
    """The requests that the candidate was asked too."""

    compared: int = 0
    dropped: int = 0
    """Not asked, since there was no time for it: real requests go first."""
    failed: int = 0
    """On which the candidate failed while the current bundle answered."""
    current: TimesReport = TimesReport()
    candidate: TimesReport = TimesReport()
    """Of the compared requests; the candidate runs when nothing else does."""


class CandidateReport(Config):
    """A candidate and what is known of it."""

    bundle: str
    fingerprint: str
    variant: str
    percent: float
    shadow: float
    current: ArmReport
    candidate: ArmReport
    shadowed: ShadowReport
    tasks: dict[str, AgreementReport] = Field(default_factory=dict)
    """How alike the answers were, by task."""


class _Arm:
    def __init__(self) -> None:
        self.times = Times()
        self.requests = 0
        self.errors = 0

    def report(self) -> ArmReport:
        return ArmReport(
            requests=self.requests, errors=self.errors, **self.times.report().model_dump()
        )


class Figures:
    """Collects them. Safe for threads."""

    def __init__(self, name: str, counters: ReleaseCounters) -> None:
        """``name`` is the model's."""
        self._name = name
        self._counters = counters
        self._lock = threading.Lock()
        self._arms: dict[Arm, _Arm] = {"current": _Arm(), "candidate": _Arm()}
        self._tasks: dict[str, Agreement] = {}
        self._outcomes = {"compared": 0, "dropped": 0, "failed": 0}
        self._shadow_times: dict[Arm, Times] = {"current": Times(), "candidate": Times()}

    def answered(self, arm: Arm, seconds: float, *, failed: bool) -> None:
        """A request that one of the bundles has answered, or failed on."""
        with self._lock:
            found = self._arms[arm]
            found.requests += 1
            found.errors += failed
            found.times.add(seconds)
        self._counters.answered(self._name, arm, seconds, failed=failed)

    def dropped(self) -> None:
        """A request that the candidate was not asked."""
        self._count("dropped")

    def failed(self) -> None:
        """A request on which the candidate has failed."""
        self._count("failed")

    def compared(
        self,
        differences: dict[str, list[Difference]],
        *,
        current_s: float,
        candidate_s: float,
    ) -> None:
        """A request that both have answered; ``differences`` are by task."""
        self._count("compared")
        with self._lock:
            self._shadow_times["current"].add(current_s)
            self._shadow_times["candidate"].add(candidate_s)
            for task, found in differences.items():
                agreement = self._tasks.setdefault(task, Agreement())
                for difference in found:
                    agreement.add(difference)
        agreed = [one.agrees for found in differences.values() for one in found]
        self._counters.agreed(self._name, agreed)

    def report(
        self, *, bundle: str, fingerprint: str, variant: str, percent: float, shadow: float
    ) -> CandidateReport:
        """What is known by now."""
        with self._lock:
            return CandidateReport(
                bundle=bundle,
                fingerprint=fingerprint,
                variant=variant,
                percent=percent,
                shadow=shadow,
                current=self._arms["current"].report(),
                candidate=self._arms["candidate"].report(),
                shadowed=ShadowReport(
                    **self._outcomes,
                    current=self._shadow_times["current"].report(),
                    candidate=self._shadow_times["candidate"].report(),
                ),
                tasks={task: found.report() for task, found in self._tasks.items()},
            )

    def _count(self, outcome: str) -> None:
        with self._lock:
            self._outcomes[outcome] += 1
        self._counters.shadowed(self._name, outcome)
