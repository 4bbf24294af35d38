"""What a search has tried, and which of it nobody would take instead."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import Field

from ray_sft.compression.candidates import Candidate, Target
from ray_sft.compression.gates import budget_misses
from ray_sft.compression.report import StepReport
from ray_sft.core import Config

__all__ = ["UNFINISHED", "Tried", "pareto_front"]

UNFINISHED: Final = -1000.0
"""Below every score."""
_MISSED = -100.0
"""The score of what misses its budget, before by how much is taken off."""
_LEAST_BUDGET = 1e-3


class Tried(Config):
    """A candidate with what became of it."""

    candidate: Candidate
    """What was tried."""
    reports: tuple[StepReport, ...] = ()
    """Of the source, and of each bundle that was made."""
    misses: dict[str, float] = Field(default_factory=dict)
    """By how much figures miss the budget; none where it is kept."""
    note: str = ""
    """Why it was not finished; empty where it was."""
    seconds: float = 0.0
    """How long it took."""

    @property
    def is_finished(self) -> bool:
        """Whether the whole chain was run."""
        return not self.note

    @property
    def keeps_budget(self) -> bool:
        """Whether it is finished and may be taken."""
        return self.is_finished and not self.misses

    def gain(self, target: Target) -> float:
        """How many times smaller, sooner or faster than the source its last bundle is."""
        source, last = self.reports[0], self.reports[-1]
        if target == "size":
            return source.num_bytes / last.num_bytes
        if target == "latency":
            return last.latency_speedup_over_source
        return last.speedup_over_source

    def score(self, target: Target, budget: Mapping[str, float]) -> float:
        """Higher is better: doublings of the gain; far below where the budget is missed."""
        if self.keeps_budget:
            return math.log2(self.gain(target))
        if not self.misses:
            return 2 * _MISSED  # a pass has refused it
        least = min((abs(allowed) for allowed in budget.values() if allowed), default=0.0)
        return _MISSED - min(math.fabs(_MISSED), self.worst_miss / max(least, _LEAST_BUDGET))

    @property
    def spelled_misses(self) -> str:
        """Such as ``intent/accuracy by 0.0120``."""
        return ", ".join(f"{name} by {amount:.4f}" for name, amount in self.misses.items())

    @property
    def worst_miss(self) -> float:
        """The largest amount by which a figure misses the budget."""
        return max(self.misses.values(), default=0.0)

    def missing(self, budget: Mapping[str, float]) -> "Tried":
        """The same with what its last bundle misses."""
        found = budget_misses(self.reports[0].metrics, self.reports[-1].metrics, budget)
        return self.model_copy(update={"misses": found})


def pareto_front(
    tried: Sequence[Tried], metric: str, *, higher_is_better: bool
) -> tuple[Tried, ...]:
    """Those finished that no other one equals or beats in size, latency and ``metric`` together.

    The smallest first.
    """
    sign = 1.0 if higher_is_better else -1.0

    def merits(one: Tried) -> tuple[float, ...]:
        return (
            one.gain("size"),
            one.gain("latency"),
            sign * one.reports[-1].metrics.get(metric, math.nan),
        )

    finished = [one for one in tried if one.is_finished]
    front: list[Tried] = []
    for one in finished:
        rivals = [merits(other) for other in finished if other is not one]
        mine = merits(one)
        beaten = any(
            all(a >= b for a, b in zip(rival, mine, strict=True)) and rival != mine
            for rival in rivals
        )
        if not beaten and all(merits(other) != mine for other in front):
            front.append(one)
    return tuple(sorted(front, key=lambda one: -one.gain("size")))
