"""A service that lives in this process, with the ways in which a release can go wrong."""

from dataclasses import dataclass, field

from ray_sft.bundle import Bundle
from ray_sft.core import ServeError
from serve.args import ServiceArgs
from serve.release.report import ModelReport, ReplicaReport
from serve.release.target import Serving, TargetStatus

__all__ = ["SimulatedTarget"]


@dataclass
class SimulatedTarget:
    """Takes ``steps`` looks at it until a change has arrived."""

    serving: Serving | None = None
    num_replicas: int = 2
    steps: int = 3
    fails_on: dict[int, str] = field(default_factory=dict)
    """Problem of the replicas by the number of a release."""
    dies_on: dict[int, str] = field(default_factory=dict)
    """What Ray says when it gives a release up, by its number."""
    stuck_on: set[int] = field(default_factory=set)
    room: bool = True
    applied: list[ServiceArgs] = field(default_factory=list)
    removed: bool = False
    _left: int = 0

    def current(self) -> Serving | None:
        return self.serving

    def check_room(self, args: ServiceArgs) -> None:
        if not self.room:
            raise ServeError(f"no room for {args.num_cpus} CPUs.")

    def apply(self, args: ServiceArgs) -> None:
        self.applied.append(args)
        self._left = self.steps
        problem = args.release in self.fails_on | self.dies_on or args.release in self.stuck_on
        if not problem:
            manifests = {name: Bundle.open(path).manifest for name, path in args.bundles.items()}
            self.serving = Serving(args, manifests)

    def status(self) -> TargetStatus:
        self._left -= 1
        wanted = self.applied[-1].release if self.applied else 0
        served = self.serving.args.release if self.serving else 0
        if wanted in self.dies_on and self._left < 0:
            return TargetStatus("failed", self.dies_on[wanted], self._replicas(served, served))
        if wanted in self.fails_on and self._left < 0:
            replicas = self._replicas(served, wanted, self.fails_on[wanted])
            return TargetStatus("running", "", replicas)
        if self._left >= 0 or wanted in self.stuck_on:
            old = self._replicas(served - (served == wanted), wanted)
            return TargetStatus("updating", "waiting for CPUs", old, num_starting=1)
        return TargetStatus("running", "", self._replicas(served, wanted))

    def remove(self) -> None:
        self.removed = True
        self.serving = None

    def _replicas(self, served: int, wanted: int, problem: str = "") -> tuple[ReplicaReport, ...]:
        args = self.serving.args if self.serving else self.applied[-1]
        models = {
            name: ModelReport(
                bundle=path, fingerprint=args.fingerprints.get(name, ""), variant="", created=""
            )
            for name, path in args.bundles.items()
        }
        state = "failed" if problem else "steady"
        return tuple(
            ReplicaReport(
                replica=f"replica-{number}",
                release=served,
                wanted=wanted,
                state=state,
                problem=problem,
                models=models,
                candidates={},
            )
            for number in range(self.num_replicas)
        )
