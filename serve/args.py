"""What a service is started with. Defaults suit a laptop: loopback, half of its processors."""

import os
from typing import Literal, Self

from pydantic import Field, model_validator

from ray_sft.core import Config
from serve.assistant import AssistantArgs
from serve.batches import BatchArgs
from serve.keys import KeyLimits
from serve.monitor import MonitorArgs
from serve.recommend import RecommendArgs
from serve.release import Release, Wanted
from serve.scaling import Autoscaling
from serve.tracing_args import TracingArgs

__all__ = ["ServiceArgs"]

_TOKENS_OF_A_CPU = 128


def _half_of_the_machine() -> int:
    return max(1, len(os.sched_getaffinity(0)) // 2)


class ServiceArgs(Config):
    """Everything that shapes a service but its keys."""

    bundles: dict[str, str] = Field(min_length=1)
    """Bundle folder by the model name that requests use."""
    fingerprints: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the manifest that a bundle must have, by model name; ``deploy`` writes them."""
    releases: dict[str, Release] = Field(default_factory=dict)
    """Candidates by model name: bundles that answer a share of the requests, or shadow them."""
    release: int = Field(default=0, ge=0)
    """Number of the release; ``deploy`` counts them."""
    revision: str = ""
    """Any text; changing it replaces the replicas one by one, as a change of settings does."""
    assistant: AssistantArgs | None = None
    """Answers customers from knowledge, under ``/v1/assistant``; left out: not offered."""
    monitor: MonitorArgs | None = None
    """Follows opinion on topics, under ``/v1/monitor``; left out: not offered."""
    recommend: RecommendArgs | None = None
    """Ranks items for users, under ``/v1/recommend``; left out: not offered."""
    batches: BatchArgs | None = None
    """Answers files of requests offline, under ``/v1/files`` and ``/v1/batches``; left out: not
    offered."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on; 0.0.0.0 offers the service to the network (keys are always needed)."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""
    num_cpus: int = Field(default_factory=_half_of_the_machine, ge=1)
    """Processors that inference uses in each replica; HTTP needs some of the others."""
    replicas: int = Field(default=1, ge=1)
    """Copies of the service, each with every model."""
    autoscaling: Autoscaling | None = None
    """Lets the number of replicas follow the requests, instead of ``replicas``."""
    max_surge_percent: int = Field(default=100, ge=0, le=100)
    """How many more replicas an update may start before it ends old ones. With 0 a service of one
    replica is away while it is updated; else the update needs room for ``num_cpus`` more."""
    health_sample_interval_s: float = Field(default=30.0, gt=0)
    """Least time between two checks of a replica's models by one of their own samples."""
    max_batch_tokens: int | None = Field(default=None, ge=1)
    """Tokens of one batch of an encoder, padding included; left out: 128 for each of ``num_cpus``,
    where larger ones answered fewer short texts a second and hardly more long ones."""
    max_queued: int = Field(default=512, ge=1)
    """Texts that may wait for an encoder, or conversations for a decoder, before 429."""
    max_wait_s: float = Field(default=5.0, gt=0)
    """A text that would wait longer than this for an encoder gets 429 at once; a short wait keeps
    those that are accepted quick when there are too many, where clients try again."""
    max_body_bytes: int = Field(default=1 << 20, ge=1024)
    """Longest request body; longer ones get 413."""
    max_inputs: int = Field(default=64, ge=1)
    """Texts of one classification request."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest reply in tokens that a chat request may ask for."""
    num_slots: int = Field(default=8, ge=1)
    """Conversations that a decoder continues at the same time."""
    prefix_tokens: int = Field(default=4096, ge=0)
    """Tokens of former prompts that a decoder keeps ready for prompts that begin alike; 0: none."""
    request_timeout_s: float = Field(default=60.0, gt=0)
    """Longest time from the first byte of a request to the last of its reply."""
    startup_timeout_s: float = Field(default=180.0, gt=0)
    """Longest time until the service answers that it is ready."""
    keys_file: str = "~/.config/ray-sft/keys.json"
    """File of hashed keys; made with one new key where neither it nor RAY_SFT_API_KEYS exists."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests a minute of each key that has no such limit of its own; left out: no limit."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens a minute, read and written, of each key that has no such limit of its own."""
    concurrent_requests: int | None = Field(default=None, ge=1)
    """Requests at the same time of each key that has no such limit of its own; streams count."""
    metrics_need_key: bool = True
    """Whether /metrics asks for a key like every other route."""
    log_format: Literal["text", "json"] = "text"
    """``json``: what replicas log is one object a line, with request id, key and model."""
    log_prompts: bool = False
    """Whether the log holds what is asked; else it holds nothing of requests but their ids."""
    tracing: TracingArgs | None = None
    """Sends traces of requests to an OpenTelemetry collector; left out: none."""
    proxy: Literal["haproxy", "plain"] = "haproxy"
    """``haproxy``: C proxy straight to the model's process; ``plain``: Ray's Python proxy."""
    ray_address: str = "local"
    """``local`` starts a Ray of its own; else a running cluster, whose settings then apply."""

    @model_validator(mode="after")
    def _names_and_numbers_agree(self) -> Self:
        for field in ("fingerprints", "releases"):
            if unknown := sorted(set(getattr(self, field)) - set(self.bundles)):
                raise ValueError(
                    f"{field} names '{unknown[0]}', which is not among the bundles "
                    f"({', '.join(self.bundles)})"
                )
        if self.autoscaling is not None and self.replicas != 1:
            raise ValueError("replicas and autoscaling are both given; leave one of them out")
        return self

    @property
    def wanted(self) -> Wanted:
        """The part that a running replica can take up."""
        return Wanted(
            release=self.release,
            bundles=self.bundles,
            fingerprints=self.fingerprints,
            releases=self.releases,
        )

    @property
    def key_limits(self) -> KeyLimits:
        """The limits of keys that have none of their own."""
        return KeyLimits(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrent_requests=self.concurrent_requests,
        )

    @property
    def batch_tokens(self) -> int:
        """Tokens of one batch of an encoder."""
        return self.max_batch_tokens or _TOKENS_OF_A_CPU * self.num_cpus

    @property
    def has_own_proxy(self) -> bool:
        """Whether the proxy is HAProxy as `serve.proxy` starts it."""
        return self.proxy == "haproxy" and self.ray_address == "local"

    @property
    def most_replicas(self) -> int:
        """Replicas at the most, without those that an update adds."""
        return self.autoscaling.max_replicas if self.autoscaling else self.replicas

    @property
    def surge_replicas(self) -> int:
        """Replicas that an update adds at the most; Ray rounds up."""
        return -(-self.most_replicas * self.max_surge_percent // 100)
