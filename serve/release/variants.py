"""The layer that lets a request be one of a canary's: it names the request and shows what answered.

While no model has a candidate, nothing of this happens: the next layer is called as it is.
"""

from collections.abc import Awaitable

from pydantic_core import from_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.limits import replayed
from serve.models import Models
from serve.release.asked import ASKED, Asked

__all__ = ["HEADER", "Variants"]

HEADER = "x-model-variant"
"""``current`` or ``candidate``, on replies of models that have a candidate."""


class Variants:
    """Wraps the application, below the limit of bodies."""

    def __init__(self, app: ASGIApp, models: Models) -> None:
        """``models`` say whether there is a choice."""
        self._app = app
        self._models = models

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """See the ASGI specification."""
        if scope["type"] != "http" or not self._models.has_candidates:
            return self._app(scope, receive, send)
        return self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        key: str = scope["state"]["request_id"]
        if scope["method"] == "POST":
            body = await receive()  # all of it: the limit in front has collected it
            key = _user(body) or key
            receive = replayed(body, receive)
        asked = Asked(key)

        async def send_out(message: Message) -> None:
            if message["type"] == "http.response.start" and asked.arm is not None:
                shown = (HEADER.encode(), asked.arm.encode())
                message["headers"] = [*message.get("headers", ()), shown]
            await send(message)

        token = ASKED.set(asked)
        try:
            await self._app(scope, receive, send_out)
        finally:
            ASKED.reset(token)


def _user(message: Message) -> str | None:
    """OpenAI's ``user`` of a body; None where it has none, or is not JSON: a route will say so."""
    body: bytes = message.get("body", b"")
    if b'"user"' not in body:
        return None
    try:
        tree = from_json(body)
    except ValueError:
        return None
    user = tree.get("user") if isinstance(tree, dict) else None
    return f"user {user}" if isinstance(user, str) and user else None
