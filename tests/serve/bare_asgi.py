"""A border around a trivial application, asked in bare ASGI: heads that no client would send."""

import json
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.border import Border
from serve.keys import Keys
from serve.limits import BodyLimit
from serve.metrics import ServiceMetrics
from serve.quotas import Quotas

__all__ = ["Reply", "ask", "bordered", "echo"]

Headers = Sequence[tuple[bytes, bytes]]


class Reply:
    """What came back."""

    def __init__(self, messages: Sequence[Message]) -> None:
        start, *rest = messages
        self.status: int = start["status"]
        self.headers = {name.decode(): value.decode() for name, value in start["headers"]}
        self.body = b"".join(message.get("body", b"") for message in rest)

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]

    @property
    def code(self) -> str:
        """``ok``, or the error's code."""
        return "ok" if self.status == 200 else self.error["code"]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Replies with the body that it is given."""
    del scope
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"]})


def bordered(
    keys: Keys,
    *,
    app: ASGIApp = echo,
    quotas: Quotas | None = None,
    metrics: ServiceMetrics | None = None,
    request_timeout_s: float = 20.0,
) -> Border:
    """Every path leads to ``app``; ``/healthz`` is public."""
    return Border(
        BodyLimit(app, max_body_bytes=1000),
        keys=keys,
        quotas=quotas,
        metrics=metrics or ServiceMetrics(),
        public_paths=["/healthz"],
        known_paths=["/v1/classify"],
        request_timeout_s=request_timeout_s,
        adds_request_id=True,
    )


async def ask(
    app: ASGIApp,
    token: str | None,
    method: str = "POST",
    path: str = "/v1/classify",
    *,
    headers: Headers = (),
    query: bytes = b"",
    body: bytes = b"{}",
) -> Reply:
    """One request, its headers as they are."""
    given = [(b"authorization", b"Bearer " + token.encode("latin-1"))] if token else []
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [*given, *headers],
    }
    await app(scope, receive, send)
    return Reply(sent)
