"""Prometheus metrics of one service process, in a registry of their own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serve.outcomes import BatchReport

__all__ = ["ServiceMetrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TEXTS = (*range(1, 33), 48, 64, 96, 128, 256, 512)
"""Exact up to 32, so that a benchmark can repeat the batches that the service ran."""


class ServiceMetrics:
    """What `/metrics` shows."""

    def __init__(self) -> None:
        """All figures at zero."""
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "ray_sft_requests",
            "Requests by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "ray_sft_request_seconds",
            "Time from the first byte of a request to the last of its reply.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.queued = Gauge(
            "ray_sft_queued", "Texts or conversations that wait.", ["model"], registry=self.registry
        )
        self.active = Gauge(
            "ray_sft_active_slots",
            "Conversations that are being continued.",
            ["model"],
            registry=self.registry,
        )
        self._batch_texts = Histogram(
            "ray_sft_batch_texts",
            "Texts of a batch.",
            ["model"],
            buckets=_TEXTS,
            registry=self.registry,
        )
        self._queue_seconds = Histogram(
            "ray_sft_queue_seconds",
            "Time that a text waited.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._inference_seconds = Histogram(
            "ray_sft_inference_seconds",
            "Time that a batch took.",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "ray_sft_tokens",
            "Tokens by kind: prompt, padding, completion.",
            ["model", "kind"],
            registry=self.registry,
        )

    def record_request(self, route: str, status: int, seconds: float) -> None:
        """One finished request; ``route`` is a path that the service has, or ``other``."""
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def record_batch(self, model: str, report: BatchReport) -> None:
        """One batch of an encoder."""
        self._batch_texts.labels(model).observe(report.num_texts)
        self._inference_seconds.labels(model).observe(report.inference_s)
        waited = self._queue_seconds.labels(model)
        for seconds in report.queue_s:
            waited.observe(seconds)
        self._tokens.labels(model, "prompt").inc(report.num_tokens)
        self._tokens.labels(model, "padding").inc(report.num_padded_tokens - report.num_tokens)

    def record_reply(self, model: str, *, prompt_tokens: int, completion_tokens: int) -> None:
        """One reply of a decoder, finished or given up."""
        self._tokens.labels(model, "prompt").inc(prompt_tokens)
        self._tokens.labels(model, "completion").inc(completion_tokens)

    def render(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self.registry)
