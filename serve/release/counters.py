"""Prometheus figures of releases, beside those of `serve.metrics` in the same registry."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serve.metrics import SECONDS

__all__ = ["ReleaseCounters"]


class ReleaseCounters:
    """What `/metrics` shows of swaps, canaries and shadows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Adds the figures to ``registry``, once."""
        self._requests = Counter(
            "ray_sft_release_requests",
            "Requests to models with a candidate, by the bundle that answered.",
            ["model", "arm"],
            registry=registry,
        )
        self._errors = Counter(
            "ray_sft_release_errors",
            "Those of them that failed.",
            ["model", "arm"],
            registry=registry,
        )
        self._seconds = Histogram(
            "ray_sft_release_seconds",
            "How long a bundle took to answer a request.",
            ["model", "arm"],
            buckets=SECONDS,
            registry=registry,
        )
        self._shadowed = Counter(
            "ray_sft_shadow_requests",
            "Requests that a candidate was to be asked too, by outcome.",
            ["model", "outcome"],
            registry=registry,
        )
        self._answers = Counter(
            "ray_sft_shadow_answers",
            "Answers of a candidate that were, or were not, those of the current bundle.",
            ["model", "agrees"],
            registry=registry,
        )
        self._swaps = Counter(
            "ray_sft_swaps",
            "Changes of bundles in the running service, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self._release = Gauge(
            "ray_sft_release", "Number of the release that is served.", registry=registry
        )

    def answered(self, model: str, arm: str, seconds: float, *, failed: bool) -> None:
        """One request to a model with a candidate."""
        self._requests.labels(model, arm).inc()
        self._seconds.labels(model, arm).observe(seconds)
        if failed:
            self._errors.labels(model, arm).inc()

    def shadowed(self, model: str, outcome: str) -> None:
        """One request that the candidate was to be asked."""
        self._shadowed.labels(model, outcome).inc()

    def agreed(self, model: str, agreed: Sequence[bool | None]) -> None:
        """Answers that could be the same; None where that is no question."""
        for agrees in agreed:
            if agrees is not None:
                self._answers.labels(model, str(agrees).lower()).inc()

    def swapped(self, outcome: str) -> None:
        """A change that was ``done`` or that ``failed``."""
        self._swaps.labels(outcome).inc()

    def serves(self, release: int) -> None:
        """The release that is served from now on."""
        self._release.set(release)
