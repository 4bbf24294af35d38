"""What of a service's arguments can change while it runs: which bundle answers under which name.

This file is read by the arguments themselves, so it knows nothing of models or Ray.
"""

from typing import Self

from pydantic import Field, model_validator

from ray_sft.core import Config

__all__ = ["Release", "Wanted"]


class Release(Config):
    """A candidate for a model name, beside the bundle that serves it."""

    bundle: str = Field(min_length=1)
    """Bundle folder of the candidate."""
    fingerprint: str = ""
    """SHA-256 of the manifest that the folder must have; empty: whatever it has."""
    percent: float = Field(default=0.0, ge=0.0, le=100.0)
    """Share of the requests that the candidate answers (a canary)."""
    shadow: float = Field(default=0.0, ge=0.0, le=100.0)
    """Share of the other requests that the candidate is asked too, for comparison alone."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.percent and not self.shadow:
            raise ValueError("neither percent nor shadow is above 0, so the candidate does nothing")
        return self


class Wanted(Config):
    """What a replica is to serve. It is Ray's ``user_config``: changing it restarts nothing."""

    release: int = Field(default=0, ge=0)
    """Number of the release that this belongs to; 0 where none was made."""
    bundles: dict[str, str] = Field(min_length=1)
    """Bundle folder by model name."""
    fingerprints: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the manifest that a bundle must have, by model name, where it is known."""
    releases: dict[str, Release] = Field(default_factory=dict)
    """Candidates by model name."""
