"""Serving the pages: one process, one port, nothing asked of the outside.

Gradio is mounted into an application of ours instead of launched, so that one server owns the
port and the signals, and every reply carries a policy that keeps the browser on this origin.
"""

import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apps.client import AsyncClient, RetryPolicy

__all__ = ["build_page_app", "launch"]

logger = logging.getLogger(__name__)

_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        b"worker-src 'self' blob:; object-src 'none'; frame-ancestors 'self'; base-uri 'self'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]
_PATIENCE = RetryPolicy(longest_wait_s=2.0, reconnect_s=2.0)
"""Who looks at a page would rather read that the service is busy than wait for it."""
_CLOSES_WITHIN_S = 3
"""Every open page holds a stream that never ends by itself."""


def launch(*, service_url: str, api_key: str, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serves the pages until SIGINT or SIGTERM.

    Raises:
        SystemExit: the address cannot be listened on, or the service's URL or key is none; the
            message says what to do.
    """
    listener = _listen(host, port)
    with listener:
        try:
            app = build_page_app(service_url=service_url, api_key=api_key)
        except ValueError as error:
            raise SystemExit(f"error: {error}") from None
        shown = f"[{host}]" if ":" in host else host
        logger.info("pages at http://%s:%d, asking the service at %s", shown, port, service_url)
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=_CLOSES_WITHIN_S
        )
        with suppress(KeyboardInterrupt):  # the way to end it, so no error
            uvicorn.Server(config).run(sockets=[listener])


def build_page_app(*, service_url: str, api_key: str) -> ASGIApp:
    """The pages as an ASGI application; ``api_key`` stays on this side.

    Raises:
        ValueError: ``service_url`` or ``api_key`` is none.
    """
    # before the import: Gradio reads them when it is loaded
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio as gr

    from apps.pages import build_pages
    from apps.theme import build_theme, page_css

    client = AsyncClient(service_url, api_key=api_key, retry=_PATIENCE)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        async with client:
            yield

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        app,
        build_pages(client),
        path="/",
        theme=build_theme(),
        css=page_css(),
        show_error=False,
        allowed_paths=[],
        max_file_size="20mb",
        ssr_mode=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        pwa=False,
        mcp_server=False,
    )
    return _WithHeaders(app)


class _WithHeaders:
    """Adds `_HEADERS` to every reply."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_out(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_out)


def _listen(host: str, port: int) -> socket.socket:
    """A socket on the address, bound before anything slow is imported."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise SystemExit(
            f"error: cannot listen on {host}:{port}: {error.strerror}. Another program may hold "
            f"the port; choose another with --port {port + 1}, or stop that program."
        ) from None
    return listener
