"""The limit on request bodies, counted as they arrive, so that chunked ones are counted too.

Pure ASGI: the whole body (at most ``max_body_bytes``) is read before the application sees the
request; the application then reads it from memory. A client that sends slowly is cut off by the
deadline around it. Uploads are the exception: the application reads them as they arrive, and they
have a limit of their own.
"""

from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import ApiError
from serve.request_head import path_of

__all__ = ["BodyLimit", "replayed"]

_LONGEST_NUMBER = 19
"""Digits; beyond them other programs overflow, and Python refuses some thousands."""


class BodyLimit:
    """Answers 413 to bodies that are too long; nothing behind it sees them."""

    def __init__(
        self, app: ASGIApp, *, max_body_bytes: int, uploads: Mapping[str, int] | None = None
    ) -> None:
        """Guards ``app``; ``uploads`` are paths that read a POST as it arrives, with its limit."""
        self.app = app
        self.max_body_bytes = max_body_bytes
        self.uploads = dict(uploads or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification.

        Raises:
            ApiError: 413, or 400 for a length that is none and a client that left within its own
                body.
        """
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.uploads and (limit := self._upload_limit(scope)) is not None:
            self._check_announced(scope, limit)
            await self.app(scope, _counted(receive, limit), send)
            return
        self._check_announced(scope, self.max_body_bytes)
        body = await self._read(receive)
        message = {"type": "http.request", "body": body, "more_body": False}
        await self.app(scope, replayed(message, receive), send)

    def _upload_limit(self, scope: Scope) -> int | None:
        if scope["method"] != "POST":
            return None
        return self.uploads.get(path_of(scope))

    def _check_announced(self, scope: Scope, limit: int) -> None:
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
            if int(value) > limit:
                raise _too_long(int(value), limit)

    async def _read(self, receive: Receive) -> bytes:
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            if len(body) > self.max_body_bytes:
                raise _too_long(len(body), self.max_body_bytes)
            return body
        chunks: list[bytes] = []
        num_bytes = 0
        while message["type"] == "http.request":
            chunks.append(message.get("body", b""))
            num_bytes += len(chunks[-1])
            if num_bytes > self.max_body_bytes:
                raise _too_long(num_bytes, self.max_body_bytes)
            if not message.get("more_body", False):
                return b"".join(chunks)
            message = await receive()
        raise ApiError(400, "the body is incomplete.", code="incomplete_body")


def replayed(first: Message, receive: Receive) -> Receive:
    """Receives ``first``, which was taken out before, and then what ``receive`` does."""
    pending = [first]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


def _counted(receive: Receive, limit: int) -> Receive:
    """Receives what arrives, and raises ApiError 413 once that is too much."""
    num_bytes = 0

    async def receive_counted() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > limit:
            raise _too_long(num_bytes, limit)
        return message

    return receive_counted


def _too_long(num_bytes: int, limit: int) -> ApiError:
    return ApiError(
        413,
        f"the body has {num_bytes} bytes or more; this service takes {limit}. "
        "Send fewer or shorter texts in one request.",
        code="body_too_large",
        headers={"connection": "close"},
    )
