"""The border of the service: what holds for every request, whatever its route.

In this order: a request id, the deadline, the head of the request, the key (every path but the
public ones, unknown paths included), its scopes, its limits, the body limit; and on the way out
the security headers, the figures, and errors in one shape. Pure ASGI, because every layer of a
framework's middleware costs as much as a short text's inference.

Wrong keys are not limited by address: behind a proxy all clients have one address, and a key of
32 random bytes is not guessed. They are counted (status 401) and not logged.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.caller import CALLER, Caller
from serve.errors import ApiError, error_body
from serve.full_routes import num_refused
from serve.keys.api_key import ApiKey
from serve.keys.scopes import scopes_for
from serve.keys.watch import Keys, KeyWatch
from serve.logs import REQUEST_ID
from serve.metrics import ServiceMetrics
from serve.quotas import LocalQuotas, Quotas
from serve.quotas.account import Ticket
from serve.request_head import check_head, is_request_id, path_of

__all__ = ["Border", "our_fault"]

logger = logging.getLogger(__name__)

_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
        b"base-uri 'none'; form-action 'none'",
    ),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
]
"""Not Strict-Transport-Security: it is for whoever ends TLS, and would bind every service of a
host name that speaks plain HTTP."""


class Border:
    """Wraps the application."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        keys: Keys,
        metrics: ServiceMetrics,
        public_paths: Collection[str],
        known_paths: Collection[str],
        request_timeout_s: float,
        adds_request_id: bool,
        proxy_refuses: bool = False,
        quotas: Quotas | None = None,
    ) -> None:
        """``adds_request_id`` is False where the server in front sends the header itself.

        ``proxy_refuses`` says that it tells how much it has refused, see `serve.full_routes`.

        Without ``quotas`` the keys' own limits hold, counted in this process.
        """
        self.app = app
        self.keys = keys
        self.metrics = metrics
        self.public_paths = frozenset(public_paths)
        self.known_paths = frozenset(known_paths)
        self.request_timeout_s = request_timeout_s
        self.adds_request_id = adds_request_id
        self.proxy_refuses = proxy_refuses
        self.quotas = quotas or LocalQuotas()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            async with self.running():
                await self.app(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follows the key file and keeps shared limits up to date, within the context."""
        async with AsyncExitStack() as stack:
            if isinstance(self.keys, KeyWatch):
                await stack.enter_async_context(self.keys.running())
            await stack.enter_async_context(self.quotas.running())
            yield

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = perf_counter()
        status = 499  # until a reply begins: the client left
        headers = dict(scope["headers"])
        given_id = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given_id if is_request_id(given_id) else uuid.uuid4().hex
        REQUEST_ID.set(request_id)
        added = list(_SECURITY_HEADERS)
        if self.adds_request_id:
            added.append((b"x-request-id", request_id.encode()))

        async def send_out(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        path = path_of(scope)
        if self.proxy_refuses and (refused := num_refused(headers)):
            self.metrics.record_refused(self._route(scope, path), refused)
        key: ApiKey | None = None
        ticket: Ticket | None = None
        caller: Caller | None = None
        previous = None
        try:
            async with asyncio.timeout(self.request_timeout_s) as deadline:
                scope.setdefault("state", {}).update(deadline=deadline, request_id=request_id)
                check_head(scope, headers)
                if path not in self.public_paths:
                    key = self._key(headers)
                    _check_scope(key, scope["method"], path)
                    ticket = await self.quotas.admit(key)
                    if ticket is not None:
                        added += ticket.headers
                    caller = Caller(key, ticket)
                    previous = CALLER.set(caller)
                await self.app(scope, receive, send_out)
        except ApiError as error:
            await _reply(error, path, send_out)
        except TimeoutError:
            logger.warning("request %s was not answered in time", request_id)
            if status == 499:
                await _reply(self._too_late(), path, send_out)
        except Exception:
            logger.exception("request %s failed", request_id)
            if status == 499:
                await _reply(our_fault(request_id), path, send_out)
        finally:
            if ticket is not None:
                ticket.release()
            if previous is not None:
                CALLER.reset(previous)
            self.metrics.record_request(
                self._route(scope, path),
                status,
                perf_counter() - start,
                model="" if caller is None else caller.model,
            )
            if key is not None:
                self.metrics.record_key(key.name, status)

    def _route(self, scope: Scope, path: str) -> str:
        """What a request is counted under: the service's own words, never the client's."""
        if path in self.known_paths:
            return path
        return getattr(scope.get("route"), "path", "other")

    def _key(self, headers: dict[bytes, bytes]) -> ApiKey:
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        if not authorization:
            raise ApiError(
                401,
                "the API key is missing. Send the header 'Authorization: Bearer <key>'.",
                code="missing_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        scheme, _, token = authorization.partition(" ")
        return self.keys.find(token.strip() if scheme.lower() == "bearer" else "")

    def _too_late(self) -> ApiError:
        return ApiError(
            408,
            f"the request was not answered within {self.request_timeout_s:g} s, the deadline of "
            "this service. Send less at a time, or try again.",
            code="timeout",
            headers={"connection": "close"},  # some of the body may be still to come
        )


def our_fault(request_id: str) -> ApiError:
    """A 500 that tells nothing but where to look."""
    return ApiError(
        500, f"the service failed on this request ({request_id}).", code="internal_error"
    )


def _check_scope(key: ApiKey, method: str, path: str) -> None:
    if "admin" in key.scopes:
        return
    allowed = scopes_for(method, path)
    if not any(scope in key.scopes for scope in allowed):
        raise ApiError(
            403,
            f"key '{key.name}' may not use {method} {path}: that takes the scope "
            f"{' or '.join(allowed)}; the key has {', '.join(key.scopes)}.",
            code="missing_scope",
        )


async def _reply(error: ApiError, path: str, send: Send) -> None:
    body = error_body(error, path)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *((name.encode(), value.encode()) for name, value in error.headers.items()),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
