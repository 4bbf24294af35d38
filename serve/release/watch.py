"""Waiting until every replica of a service runs a release and answers its samples over HTTP."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serve.release.golden import GoldenBundle
from serve.release.target import Target, TargetStatus

__all__ = ["Watch"]

_EVERY_S = 0.5
_LAST_WORDS = 1200

Ask = Callable[[Sequence[GoldenBundle]], list[str]]


@dataclass(frozen=True)
class Watch:
    """How to wait."""

    ask: Ask
    """Asks the service over HTTP; what is wrong, in words."""
    say: Callable[[str], None] = lambda _: None
    """Is told how far it is."""
    timeout_s: float = 600.0
    """After so long a release has failed."""
    clock: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)

    def until_served(self, target: Target, release: int, golden: Sequence[GoldenBundle]) -> str:
        """Why a release does not serve within the time; empty once it does."""
        ends_at = self.clock() + self.timeout_s
        problem = self._replicas(target, release, ends_at)
        if problem:
            return problem
        self.say("asking the samples over HTTP")
        while problems := self.ask(golden):
            if self.clock() > ends_at:
                return f"the samples are not answered as recorded: {'; '.join(problems[:3])}"
            self.sleep(_EVERY_S)
        return ""

    def _replicas(self, target: Target, release: int, ends_at: float) -> str:
        while True:
            status = target.status()
            if problem := _given_up(status, release):
                return problem
            done = [one for one in status.replicas if _serves(one.release, one.state, release)]
            if status.state == "running" and done and len(done) == len(status.replicas):
                return ""
            if status.state == "running" and not status.replicas:
                self.ask([])  # scaled to zero: the question starts a replica
            self.say(
                f"{len(done)} of {len(status.replicas) + status.num_starting} replicas serve "
                f"release {release}"
            )
            if self.clock() > ends_at:
                return _too_late(status, release, len(done), self.timeout_s)
            self.sleep(_EVERY_S)


def _serves(served: int, state: str, release: int) -> bool:
    return served == release and state == "steady"


def _given_up(status: TargetStatus, release: int) -> str:
    """What Ray or a replica says of a release that will not come; empty while it may."""
    for replica in status.replicas:
        if replica.state == "failed" and replica.wanted == release:
            return replica.problem
    if status.state == "failed":
        return f"the new replicas do not start: {_reason(status.message)}"
    if status.state == "missing":
        return "the service is not there any more"
    return ""


def _too_late(status: TargetStatus, release: int, num_done: int, timeout_s: float) -> str:
    said = f" Ray says: {_reason(status.message)}" if status.message else ""
    num_replicas = len(status.replicas) + status.num_starting
    return (
        f"after {timeout_s:g} s {num_done} of {num_replicas} replicas serve release "
        f"{release}.{said}"
    )


def _reason(message: str) -> str:
    """What our own code said, out of Ray's account of it; else the end of that."""
    lines = [line.strip() for line in message.splitlines() if "Error: " in line]
    return lines[-1] if lines else message[-_LAST_WORDS:].strip()
