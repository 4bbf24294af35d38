"""Requests as the bytes that go over the wire, made before the load begins."""

import json
from dataclasses import dataclass
from itertools import cycle, islice
from urllib.parse import SplitResult, urlsplit

from apps.bench.plan import Plan
from apps.bench.routes import ROUTES

__all__ = ["Address", "address_of", "make_requests"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where connections are opened."""

    host: str
    port: int
    is_secure: bool
    """Whether TLS is spoken."""


def address_of(url: str) -> Address:
    """The address of a URL that `apps.client` has taken."""
    parts = urlsplit(url)
    is_secure = parts.scheme == "https"
    return Address(parts.hostname or "", parts.port or (443 if is_secure else 80), is_secure)


def make_requests(plan: Plan, *, key: str) -> list[bytes]:
    """A request for each text, or for each run of ``texts_per_request`` texts."""
    parts = urlsplit(plan.url)
    size, num_texts = plan.texts_per_request, len(plan.texts)
    texts = list(islice(cycle(plan.texts), num_texts + size))  # the last request is full too
    firsts = range(0, num_texts, size)
    return [_request(plan, parts, key, texts[first : first + size]) for first in firsts]


def _request(plan: Plan, parts: SplitResult, key: str, texts: list[str]) -> bytes:
    route = ROUTES[plan.route]
    tree = route.body(texts)
    if plan.model is not None:
        tree["model"] = plan.model
    if route.writes:
        tree |= {
            "max_tokens": plan.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    body = json.dumps(tree, ensure_ascii=False).encode()
    lines = [
        f"POST {parts.path.rstrip('/')}{route.path} HTTP/1.1",
        f"host: {parts.netloc}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "user-agent: ray-sft-bench",
    ]
    if key:
        lines.append(f"authorization: Bearer {key}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
