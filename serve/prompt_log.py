"""Writes down what is asked, where the owner of the service wants to read it; off by default."""

import logging
import sys
from collections.abc import Collection
from typing import TextIO

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.limits import replayed
from serve.logs import NamesRequest
from serve.request_head import path_of

__all__ = ["PromptLog", "show_prompts"]

logger = logging.getLogger(__name__)

_LONGEST = 20_000
"""Bytes of a body that are written."""


class PromptLog:
    """Wraps the application, below the limit of bodies: each body is a line of the log."""

    def __init__(self, app: ASGIApp, *, uploads: Collection[str] = ()) -> None:
        """``uploads`` are paths whose bodies are files, which are kept elsewhere."""
        self._app = app
        self._uploads = frozenset(uploads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http" and scope["method"] == "POST":
            path = path_of(scope)
            if path not in self._uploads:
                message = await receive()  # all of it: the limit in front has collected it
                body: bytes = message.get("body", b"")
                _write(path, body)
                receive = replayed(message, receive)
        await self._app(scope, receive, send)


def _write(path: str, body: bytes) -> None:
    shown = body[:_LONGEST].decode("utf-8", "replace")
    left_out = max(0, len(body) - _LONGEST)
    logger.info("%s was asked: %s%s", path, shown, f" ({left_out} bytes more)" if left_out else "")


def show_prompts(stream: TextIO = sys.stderr) -> None:
    """Lets the lines be written, as `serve.logs.log_as_json` writes all where that was called."""
    logger.setLevel(logging.INFO)
    if logging.getLogger("serve").handlers or logger.handlers:
        return
    handler = logging.StreamHandler(stream)
    form = "{asctime} {request_id} {key} {message}"
    handler.setFormatter(logging.Formatter(form, style="{", defaults={"request_id": "", "key": ""}))
    handler.addFilter(NamesRequest())
    logger.addHandler(handler)
