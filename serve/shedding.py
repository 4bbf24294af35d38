"""Says no at once where every model of a route would, before a request is read.

A refusal by the route itself costs five times as much: by then the body is collected, parsed and
validated. Under an overload refusals are most of what the event loop does, and what it accepts
waits for them; so the proxy is told to say no by itself for a moment, see `serve.full_routes`.
"""

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.errors import queue_full
from serve.full_routes import FULL_HEADER, full_for_ms
from serve.models import Models
from serve.request_head import path_of

__all__ = ["Shedding"]


class Shedding:
    """Wraps the application, between the border and the limit of bodies."""

    def __init__(self, app: ASGIApp, models: Models) -> None:
        """``models`` know which routes have a place in a queue."""
        self._app = app
        self._models = models

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """See the ASGI specification.

        Raises:
            ApiError: 429, no model of the route takes a text at the moment.
        """
        if scope["type"] == "http" and scope["method"] == "POST":
            path = path_of(scope)
            if (refusal := self._models.refusal(path)) is not None:
                error = queue_full(refusal)
                error.headers[FULL_HEADER] = str(full_for_ms(refusal.wait_s))
                raise error
        return self._app(scope, receive, send)
