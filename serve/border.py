"""The border of the service: what holds for every request, whatever its route.

In this order: a request id, the deadline, the key (every path but the public ones, unknown paths
included), headers that would steer Ray from outside, the body limit, and on the way out the
security headers, the figures, and errors in one shape. Pure ASGI, because every layer of a
framework's middleware costs as much as a short text's inference.
"""

import asyncio
import logging
import re
import uuid
from collections.abc import Collection
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.errors import ApiError, error_body
from serve.keys import KeyRing
from serve.metrics import ServiceMetrics

__all__ = ["Border", "our_fault"]

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_STEERING = ("x-request-timeout-seconds", "x-request-disconnect-disabled")
_STEERING_NAMES = frozenset(name.encode() for name in _STEERING)
"""With these, and with a multiplexed model id, a client could switch off Ray's deadline and the
cancelling of requests whose client has left."""
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"referrer-policy", b"no-referrer"),
]


class Border:
    """Wraps the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: KeyRing,
        metrics: ServiceMetrics,
        public_paths: Collection[str],
        known_paths: Collection[str],
        request_timeout_s: float,
        adds_request_id: bool,
    ) -> None:
        """``adds_request_id`` is False where the server in front sends the header itself."""
        self.app = app
        self.keys = keys
        self.metrics = metrics
        self.public_paths = frozenset(public_paths)
        self.known_paths = frozenset(known_paths)
        self.request_timeout_s = request_timeout_s
        self.adds_request_id = adds_request_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        start = perf_counter()
        status = 499  # until a reply begins: the client left
        headers = dict(scope["headers"])
        given_id = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given_id if _REQUEST_ID.fullmatch(given_id) else uuid.uuid4().hex
        added = list(_SECURITY_HEADERS)
        if self.adds_request_id:
            added.append((b"x-request-id", request_id.encode()))

        async def send_out(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        path = scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            async with asyncio.timeout(self.request_timeout_s) as deadline:
                scope.setdefault("state", {}).update(deadline=deadline, request_id=request_id)
                self._check(path, headers, given_id)
                await self.app(scope, receive, send_out)
        except ApiError as error:
            await _reply(error, send_out)
        except TimeoutError:
            logger.warning("request %s was not answered in time", request_id)
            if status == 499:
                await _reply(self._too_late(), send_out)
        except Exception:
            logger.exception("request %s failed", request_id)
            if status == 499:
                await _reply(our_fault(request_id), send_out)
        finally:
            route = path if path in self.known_paths else "other"
            self.metrics.record_request(route, status, perf_counter() - start)

    def _check(self, path: str, headers: dict[bytes, bytes], request_id: str) -> None:
        if path not in self.public_paths:
            self._check_key(headers.get(b"authorization", b"").decode("latin-1"))
        for name in headers:
            lowered = name.decode("latin-1").lower().replace("-", "_")
            if name in _STEERING_NAMES or lowered == "serve_multiplexed_model_id":
                raise ApiError(
                    400,
                    f"header '{name.decode('latin-1')}' is not supported by this service. "
                    "Leave it out.",
                    code="unsupported_header",
                )
        if request_id and not _REQUEST_ID.fullmatch(request_id):
            raise ApiError(
                400,
                "x-request-id has more than 128 characters or others than letters, digits, "
                "'.', '_', ':', '-'.",
                code="invalid_request_id",
            )

    def _check_key(self, authorization: str) -> None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and self.keys.match(token.strip()) is not None:
            return
        what = "is wrong" if authorization else "is missing"
        raise ApiError(
            401,
            f"the API key {what}. Send the header 'Authorization: Bearer <key>'.",
            code="invalid_api_key" if authorization else "missing_api_key",
            headers={"www-authenticate": "Bearer"},
        )

    def _too_late(self) -> ApiError:
        return ApiError(
            408,
            f"the request was not answered within {self.request_timeout_s:g} s, the deadline of "
            "this service. Send less at a time, or try again.",
            code="timeout",
        )


def our_fault(request_id: str) -> ApiError:
    """A 500 that tells nothing but where to look."""
    return ApiError(
        500, f"the service failed on this request ({request_id}).", code="internal_error"
    )


async def _reply(error: ApiError, send: Send) -> None:
    body = error_body(error)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *((name.encode(), value.encode()) for name, value in error.headers.items()),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
