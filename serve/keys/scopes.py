"""What a key may do: a few scopes, each a set of routes told by the beginning of their path.

A route that no scope names is open to ``admin`` alone, so that a new one is closed until somebody
decides. Which *model* a key may ask is another question, since only the route knows the model:
`serve.caller.permit_model`.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, TypeAlias

__all__ = ["SCOPES", "ScopeName", "scopes_for"]

ScopeName: TypeAlias = Literal[
    "admin", "infer", "chat", "assistant", "monitor", "recommend", "read", "metrics"
]

SCOPES: Mapping[ScopeName, str] = {
    "admin": "every route",
    "infer": "every model route, chat included, and batches of them",
    "chat": "the routes that write text: chat, completions, responses, and batches of them",
    "assistant": "/v1/assistant",
    "monitor": "/v1/monitor",
    "recommend": "/v1/recommend",
    "read": "what only reads: every GET under /v1 and /v2",
    "metrics": "/metrics, for Prometheus",
}
"""What each opens. Every one but ``metrics`` also lists the models."""

_CHAT: tuple[ScopeName, ...] = ("infer", "chat")
_LISTING: tuple[ScopeName, ...] = (
    "infer",
    "chat",
    "assistant",
    "monitor",
    "recommend",
    "read",
)
_ROUTES: tuple[tuple[str, tuple[ScopeName, ...]], ...] = (
    ("/metrics", ("metrics",)),
    ("/v1/admin", ()),
    ("/v1/releases", ()),
    ("/v1/models", _LISTING),
    ("/v1/assistant", ("assistant",)),
    ("/v1/monitor", ("monitor",)),
    ("/v1/recommend", ("recommend",)),
    ("/v1/chat", _CHAT),
    ("/v1/completions", _CHAT),
    ("/v1/responses", _CHAT),
    # whether the key may use the route that a batch is for is asked when the batch is made
    ("/v1/files", _CHAT),
    ("/v1/batches", _CHAT),
    ("/v1", ("infer",)),
    ("/v2", ("infer",)),
)
"""The first that fits decides; it does where the path is it or goes on with a slash."""
_READING = ("GET", "HEAD")
_NOT_FOR_READERS = ("/metrics", "/v1/admin")


@lru_cache(maxsize=1024)
def scopes_for(method: str, path: str) -> tuple[ScopeName, ...]:
    """The scopes of which a key needs one for this request, the narrowest first."""
    for prefix, scopes in _ROUTES:
        if path == prefix or path.startswith(f"{prefix}/"):
            found = tuple(reversed(scopes))
            if method in _READING and prefix not in _NOT_FOR_READERS and "read" not in scopes:
                found = (*found, "read")
            return (*found, "admin")
    return ("admin",)
