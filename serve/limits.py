"""The limit on request bodies, counted as they arrive, so that chunked ones are counted too.

Pure ASGI: the whole body (at most ``max_body_bytes``) is read before the application sees the
request; the application then reads it from memory. A client that sends slowly is cut off by the
deadline around it.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import ApiError

__all__ = ["BodyLimit"]

_LONGEST_NUMBER = 19
"""Digits; beyond them other programs overflow, and Python refuses some thousands."""


class BodyLimit:
    """Answers 413 to bodies that are too long; nothing behind it sees them."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        """Guards ``app``."""
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification.

        Raises:
            ApiError: 413, or 400 for a length that is none and a client that left within its own
                body.
        """
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self._check_announced(scope)
        body = await self._read(receive)
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self.app(scope, replay, send)

    def _check_announced(self, scope: Scope) -> None:
        for name, value in scope["headers"]:
            if name != b"content-length":
                continue
            if not value.isdigit() or len(value) > _LONGEST_NUMBER:
                raise ApiError(
                    400,
                    "content-length is no number of bytes.",
                    code="invalid_header",
                    headers={"connection": "close"},
                )
            if int(value) > self.max_body_bytes:
                raise self._too_long(int(value))

    async def _read(self, receive: Receive) -> bytes:
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) > self.max_body_bytes:
                raise self._too_long(len(body))
            return body
        chunks: list[bytes] = []
        num_bytes = 0
        while message["type"] == "http.request":
            chunks.append(message.get("body", b""))
            num_bytes += len(chunks[-1])
            if num_bytes > self.max_body_bytes:
                raise self._too_long(num_bytes)
            if not message.get("more_body", False):
                return b"".join(chunks)
            message = await receive()
        raise ApiError(400, "the body is incomplete.", code="incomplete_body")

    def _too_long(self, num_bytes: int) -> ApiError:
        return ApiError(
            413,
            f"the body has {num_bytes} bytes or more; this service takes {self.max_body_bytes}. "
            "Send fewer or shorter texts in one request.",
            code="body_too_large",
            headers={"connection": "close"},
        )
