"""Prometheus metrics of one service process, in a registry of their own."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

from serve.outcomes import BatchReport

__all__ = ["SECONDS", "ServiceMetrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper ends of the buckets of every histogram of times."""
_TEXTS = (*range(1, 33), 48, 64, 96, 128, 256, 512)
"""Exact up to 32, so that a benchmark can repeat the batches that the service ran."""


class ServiceMetrics:
    """What `/metrics` shows."""

    def __init__(self) -> None:
        """All figures at zero."""
        self.registry = CollectorRegistry()
        self._collectors: dict[type[Collector], Collector] = {}
        self._requests = Counter(
            "ray_sft_requests",
            "Requests by route, model and status; without a model where none was asked.",
            ["route", "model", "status"],
            registry=self.registry,
        )
        self._key_requests = Counter(
            "ray_sft_key_requests",
            "Requests by name of the API key and status.",
            ["key", "status"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "ray_sft_request_seconds",
            "Time from the first byte of a request to the last of its reply.",
            ["route", "model"],
            buckets=SECONDS,
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
            buckets=SECONDS,
            registry=self.registry,
        )
        self._inference_seconds = Histogram(
            "ray_sft_inference_seconds",
            "Time that a batch took.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._first_token_seconds = Histogram(
            "ray_sft_first_token_seconds",
            "Time from a request to the first token of its reply.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._token_seconds = Histogram(
            "ray_sft_token_seconds",
            "Mean time between two tokens of a reply.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "ray_sft_tokens",
            "Tokens by kind: prompt, cached (of a prompt, not read again), padding, completion.",
            ["model", "kind"],
            registry=self.registry,
        )

    def record_request(self, route: str, status: int, seconds: float, *, model: str = "") -> None:
        """One finished request; ``route`` is a path that the service has, or ``other``."""
        self._requests.labels(route, model, str(status)).inc()
        self._request_seconds.labels(route, model).observe(seconds)

    def record_refused(self, route: str, num_requests: int) -> None:
        """Requests that the proxy has answered by 429 in the service's place."""
        self._requests.labels(route, "", "429").inc(num_requests)

    def record_key(self, key: str, status: int) -> None:
        """One finished request of a key, whose name no client chooses."""
        self._key_requests.labels(key, str(status)).inc()

    def record_batch(self, model: str, report: BatchReport) -> None:
        """One batch of an encoder."""
        self._batch_texts.labels(model).observe(report.num_texts)
        self._inference_seconds.labels(model).observe(report.inference_s)
        waited = self._queue_seconds.labels(model)
        for seconds in report.queue_s:
            waited.observe(seconds)
        self._tokens.labels(model, "prompt").inc(report.num_tokens)
        self._tokens.labels(model, "padding").inc(report.num_padded_tokens - report.num_tokens)

    def record_reply(
        self, model: str, *, prompt_tokens: int, cached_tokens: int, completion_tokens: int
    ) -> None:
        """Replies of a decoder to one request, finished or given up."""
        self._tokens.labels(model, "prompt").inc(prompt_tokens)
        self._tokens.labels(model, "cached").inc(cached_tokens)
        self._tokens.labels(model, "completion").inc(completion_tokens)

    def record_pace(
        self, model: str, *, queue_s: float, first_token_s: float, token_s: float | None
    ) -> None:
        """How long one reply waited, and how fast it came; a reply of one token has no pace."""
        self._queue_seconds.labels(model).observe(queue_s)
        self._first_token_seconds.labels(model).observe(first_token_s)
        if token_s is not None:
            self._token_seconds.labels(model).observe(token_s)

    def show(self, collector: Collector) -> None:
        """Shows what ``collector`` finds too, in place of one of its kind that was shown before."""
        if (former := self._collectors.get(type(collector))) is not None:
            self.registry.unregister(former)
        self._collectors[type(collector)] = collector
        self.registry.register(collector)

    def render(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self.registry)
