"""The report of a service that is one process and whose bundles do not change."""

from collections.abc import Awaitable, Callable, Sequence

from serve.models import Models
from serve.release.report import ReplicaReport, describe_bundles

__all__ = ["own_report"]


def own_report(models: Models, release: int) -> Callable[[], Awaitable[Sequence[ReplicaReport]]]:
    """What `serve.endpoints.releases` asks for, of ``models`` alone."""

    async def report() -> list[ReplicaReport]:
        return [
            ReplicaReport(
                replica="local",
                release=release,
                wanted=release,
                state="steady",
                models=describe_bundles(models.bundles),
                candidates={name: arms.report() for name, arms in models.arms.items()},
            )
        ]

    return report
