"""What a monitor is started with. Defaults suit hourly counts of a lively topic."""

import ipaddress
from collections.abc import Collection
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ray_sft.core import Config, ServeError

__all__ = ["AlertArgs", "MonitorArgs"]


class AlertArgs(Config):
    """When negative opinion on a topic counts as surging; all counts are those of one bucket."""

    min_count: int = Field(default=8, ge=1)
    """Items below which a bucket says nothing."""
    min_effect: float = Field(default=0.15, gt=0, lt=1)
    """Least excess of the negative share over the expected one."""
    raise_p: float = Field(default=5e-4, gt=0, lt=1)
    """Highest probability, were opinion unchanged, of so many negative items to raise an alert."""
    hold_p: float = Field(default=0.05, gt=0, lt=1)
    """The same to keep an alert up, with half the least excess: higher, so that it holds."""
    num_hits: int = Field(default=1, ge=1)
    """Buckets among the last ``out_of`` that must qualify before an alert is raised."""
    out_of: int = Field(default=1, ge=1)
    """See ``num_hits``; 2 of 3 is slower and calmer than 1 of 1."""
    quiet_buckets: int = Field(default=2, ge=1)
    """Buckets in a row that no longer hold an alert until it ends."""
    cooldown_buckets: int = Field(default=3, ge=0)
    """Buckets after an alert's end in which none is raised."""
    max_buckets: int = Field(default=72, ge=2)
    """Buckets after which an alert ends and its own level becomes what is expected."""
    warmup_buckets: int = Field(default=12, ge=0)
    """Buckets since a topic's first item in which no alert is raised."""
    warmup_items: int = Field(default=20, ge=0)
    """Items, faded like the baseline, without which no alert is raised."""
    half_life_buckets: float = Field(default=72.0, ge=1)
    """Buckets in which the weight of the past halves."""
    guard_buckets: int = Field(default=6, ge=0)
    """Newest buckets that are not yet part of what is usual: a surge may have begun in them."""
    correlation: float = Field(default=0.01, ge=0, lt=1)
    """Least correlation of the opinions in a bucket: they are never as independent as coin tosses.
    More is assumed where a topic's past shows more."""
    num_evidence: int = Field(default=5, ge=0, le=20)
    """Items that an alert shows."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.num_hits > self.out_of:
            raise ValueError(f"num_hits is {self.num_hits}, more than out_of, {self.out_of}")
        if self.hold_p < self.raise_p:
            raise ValueError(
                f"hold_p is {self.hold_p}, below raise_p, {self.raise_p}: an alert would end as "
                "it begins"
            )
        if self.quiet_buckets > self.max_buckets:
            raise ValueError(
                f"quiet_buckets is {self.quiet_buckets}, more than max_buckets, {self.max_buckets}"
            )
        return self

    @property
    def decay(self) -> float:
        """What is left of the past's weight after one bucket."""
        return float(0.5 ** (1.0 / self.half_life_buckets))


class MonitorArgs(Config):
    """Everything that shapes a monitor but the secret that signs its webhook."""

    model: str = Field(min_length=1)
    """Name of the bundle in the service that tells topic and sentiment."""
    topic_task: str = "topic"
    """The bundle's task whose label is the topic."""
    sentiment_task: str = "sentiment"
    """The bundle's task whose labels are the sentiments."""
    negative: tuple[str, ...] = Field(default=("negative",), min_length=1)
    """Sentiments that count as negative."""
    positive: tuple[str, ...] = ("positive",)
    """Sentiments that count as positive; all others are neutral."""
    database: str = "sqlite:///monitor.db"
    """SQLAlchemy URL: ``sqlite:///file`` for one process, or ``postgresql+psycopg://...``."""
    bucket_s: int = Field(default=3600, ge=1)
    """Length of the buckets in which opinion is counted and judged."""
    alerts: AlertArgs = AlertArgs()
    """When an alert is raised."""
    webhook_url: str = ""
    """Where alerts are sent, http or https; empty: nowhere."""
    webhook_allow_private: bool = False
    """Whether the webhook may be within this machine's or its network's private addresses."""
    webhook_timeout_s: float = Field(default=10.0, gt=0)
    """Longest time of one delivery."""
    webhook_max_attempts: int = Field(default=10, ge=1)
    """Deliveries tried before an alert's message is given up and kept as dead."""
    webhook_retry_s: float = Field(default=5.0, gt=0)
    """Wait after the first failure; it doubles with each, up to an hour."""
    max_items: int = Field(default=1000, ge=1)
    """Items of one request."""
    max_text_length: int = Field(default=20_000, ge=1)
    """Characters of an item's text; the model reads as much of its beginning as it takes."""
    max_future_s: float = Field(default=3600.0, ge=0)
    """How far an item's time may be ahead of this machine's clock."""
    batch_texts: int = Field(default=64, ge=1)
    """Texts handed to the model together; no more than its queue holds."""
    queue_wait_s: float = Field(default=10.0, ge=0)
    """How long a request waits for room in the model's queue before 429."""

    @field_validator("webhook_url")
    @classmethod
    def _is_plain(cls, url: str) -> str:
        if not url:
            return url
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a webhook's URL begins with https:// or http:// and names a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a webhook's URL holds no user or password: messages are signed")
        _ = parts.port  # raises for what is no port
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if both := set(self.negative) & set(self.positive):
            raise ValueError(f"sentiment '{min(both)}' is both negative and positive")
        host = urlsplit(self.webhook_url).hostname or ""
        if not self.webhook_allow_private and _is_private_literal(host):
            raise ValueError(
                f"webhook_url names the private address {host}. Choose a public one, or set "
                "webhook_allow_private: true"
            )
        return self

    def check_sentiments(self, labels: Collection[str]) -> None:
        """Raises ServeError where the bundle's sentiment task does not know a label of ours."""
        for name in (*self.negative, *self.positive):
            if name not in labels:
                raise ServeError(
                    f"model '{self.model}' has no sentiment '{name}' (it has: "
                    f"{', '.join(labels)}). Name its labels in the monitor's negative and positive."
                )


def _is_private_literal(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False
