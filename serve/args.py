"""What a service is started with. Defaults suit a laptop: loopback, half of its processors."""

import os
from typing import Literal

from pydantic import Field

from ray_sft.core import Config
from serve.assistant import AssistantArgs
from serve.monitor import MonitorArgs
from serve.recommend import RecommendArgs

__all__ = ["ServiceArgs"]


def _half_of_the_machine() -> int:
    return max(1, len(os.sched_getaffinity(0)) // 2)


class ServiceArgs(Config):
    """Everything that shapes a service but its keys."""

    bundles: dict[str, str] = Field(min_length=1)
    """Bundle folder by the model name that requests use."""
    assistant: AssistantArgs | None = None
    """Answers customers from knowledge, under ``/v1/assistant``; left out: not offered."""
    monitor: MonitorArgs | None = None
    """Follows opinion on topics, under ``/v1/monitor``; left out: not offered."""
    recommend: RecommendArgs | None = None
    """Ranks items for users, under ``/v1/recommend``; left out: not offered."""
    host: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on; 0.0.0.0 offers the service to the network (keys are always needed)."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""
    num_cpus: int = Field(default_factory=_half_of_the_machine, ge=1)
    """Processors that inference uses; HTTP needs some of the others."""
    max_batch_tokens: int = Field(default=512, ge=1)
    """Tokens of one batch of an encoder, padding included."""
    max_queued: int = Field(default=512, ge=1)
    """Texts that may wait for an encoder, or conversations for a decoder, before 429."""
    max_body_bytes: int = Field(default=1 << 20, ge=1024)
    """Longest request body; longer ones get 413."""
    max_inputs: int = Field(default=64, ge=1)
    """Texts of one classification request."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest reply in tokens that a chat request may ask for."""
    num_slots: int = Field(default=8, ge=1)
    """Conversations that a decoder continues at the same time."""
    request_timeout_s: float = Field(default=60.0, gt=0)
    """Longest time from the first byte of a request to the last of its reply."""
    startup_timeout_s: float = Field(default=180.0, gt=0)
    """Longest time until the service answers that it is ready."""
    keys_file: str = "~/.config/ray-sft/keys.json"
    """File of hashed keys; made with one new key where neither it nor RAY_SFT_API_KEYS exists."""
    metrics_need_key: bool = True
    """Whether /metrics asks for a key like every other route."""
    proxy: Literal["haproxy", "plain"] = "haproxy"
    """``haproxy``: C proxy straight to the model's process; ``plain``: Ray's Python proxy."""
    ray_address: str = "local"
    """``local`` starts a Ray of its own; else a running cluster, whose settings then apply."""
