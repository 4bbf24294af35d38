"""What a replica tells of its release: over HTTP, and to the command that deploys."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from ray_sft.core import Config
from serve.release.figures import CandidateReport
from serve.served import LoadedBundle

__all__ = ["ModelReport", "ReplicaReport", "ReplicaState", "describe_bundles"]

ReplicaState: TypeAlias = Literal["steady", "changing", "failed"]


class ModelReport(Config):
    """The bundle behind a name."""

    bundle: str
    fingerprint: str
    variant: str
    created: str


class ReplicaReport(Config):
    """One process of the service."""

    replica: str
    """Its name."""
    release: int
    """Number of the release that it serves."""
    wanted: int
    """Number of the release that it was last asked for."""
    state: ReplicaState
    """``changing`` while bundles are loaded; ``failed`` where the last change was not taken up, so
    that what was served before is served still."""
    problem: str = ""
    """Why it was not."""
    models: dict[str, ModelReport]
    """What answers, by name."""
    candidates: dict[str, CandidateReport]
    """What may come in its place, by name."""


def describe_bundles(bundles: Mapping[str, LoadedBundle]) -> dict[str, ModelReport]:
    """The bundles that are served, by name."""
    return {
        name: ModelReport(
            bundle=loaded.path,
            fingerprint=loaded.fingerprint,
            variant=loaded.bundle.manifest.variant,
            created=loaded.bundle.manifest.created,
        )
        for name, loaded in bundles.items()
    }
