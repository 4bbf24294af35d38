"""What the head of a request may not hold, whatever its route.

Servers and proxies disagree on some heads: which of two equal headers counts, where a body ends,
which headers a proxy takes away. A request that another program in front may have understood
otherwise is refused. ASGI gives names of headers in lower case.
"""

import re
from itertools import product

from starlette.types import Scope

from serve.errors import ApiError

__all__ = ["check_head", "is_request_id", "path_of"]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_AUTHORIZATION = 1024
_MOST_HEADERS = 100
_MOST_HEADER_BYTES = 32 * 1024
"""uvicorn takes any number."""

_STEERING = frozenset(
    {
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        # Ray takes either sign between the words
        *(
            b"serve%bmultiplexed%bmodel%bid" % signs
            for signs in product((b"_", b"-"), (b"_", b"-"), (b"_", b"-"))
        ),
    }
)
"""With these a client could switch off Ray's deadline and the cancelling of requests whose client
has left, or choose what a replica loads."""

_ONCE = frozenset(
    {
        b"authorization",
        b"connection",
        b"content-length",
        b"content-type",
        b"host",
        b"transfer-encoding",
        b"x-request-id",
    }
)
"""Of two of these, two programs may believe different ones."""

_USUAL_CONNECTIONS = frozenset({b"", b"keep-alive", b"close", b"Keep-Alive", b"Close"})
_CLOSE = {"connection": "close"}


def is_request_id(value: str) -> bool:
    """Whether a client's request id can be taken over, into logs too."""
    return _REQUEST_ID.fullmatch(value) is not None


def path_of(scope: Scope) -> str:
    """The path of a request as the application knows it, without what it is mounted under."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def check_head(scope: Scope, headers: dict[bytes, bytes]) -> None:
    """Raises ApiError for a head that is ambiguous or would steer what it may not.

    ``headers`` are those of ``scope``, the last of equal ones. The status is 400, and 431 for a
    head that is too long.
    """
    if (
        len(scope["headers"]) > _MOST_HEADERS
        or sum(map(len, headers.values())) > _MOST_HEADER_BYTES
    ):
        raise ApiError(
            431,
            f"the request has more than {_MOST_HEADERS} headers or {_MOST_HEADER_BYTES} bytes of "
            "them.",
            code="headers_too_large",
            headers=_CLOSE,
        )
    if len(headers) != len(scope["headers"]):
        _check_repeated(scope)
    if b"transfer-encoding" in headers and b"content-length" in headers:
        raise ApiError(
            400,
            "the request has both content-length and transfer-encoding, so that its end is "
            "ambiguous. Send one of them.",
            code="ambiguous_length",
            headers=_CLOSE,
        )
    if headers.get(b"connection", b"") not in _USUAL_CONNECTIONS:
        _check_connection(headers[b"connection"])
    if not _STEERING.isdisjoint(headers):
        name = next(name for name in headers if name in _STEERING).decode()
        raise _unsupported(name)
    if len(headers.get(b"authorization", b"")) > _LONGEST_AUTHORIZATION:
        raise ApiError(
            400,
            f"the header 'authorization' has more than {_LONGEST_AUTHORIZATION} characters; a key "
            "has 48.",
            code="invalid_header",
        )
    if _CONTROL.search(scope["path"]) or b"%00" in scope.get("query_string", b""):
        raise ApiError(
            400,
            "the address holds a control character (%00 to %1F, %7F), which no name has.",
            code="invalid_value",
        )
    request_id = headers.get(b"x-request-id")
    if request_id and not is_request_id(request_id.decode("latin-1")):
        raise ApiError(
            400,
            "x-request-id has more than 128 characters or others than letters, digits, "
            "'.', '_', ':', '-'.",
            code="invalid_request_id",
        )


def _check_repeated(scope: Scope) -> None:
    seen: set[bytes] = set()
    for name, _ in scope["headers"]:
        if name in seen and name in _ONCE:
            raise ApiError(
                400,
                f"the header '{name.decode()}' stands twice. Send it once.",
                code="repeated_header",
                headers=_CLOSE,
            )
        seen.add(name)


def _check_connection(value: bytes) -> None:
    """A header that is named here is one that a proxy in front takes away before it goes on."""
    for name in value.lower().split(b","):
        if name.strip() in _ONCE or name.strip() in _STEERING:
            raise ApiError(
                400,
                f"the header 'connection' names '{name.strip().decode()}', which is no header of "
                "a connection. Leave it out.",
                code="unsupported_header",
                headers=_CLOSE,
            )


def _unsupported(name: str) -> ApiError:
    return ApiError(
        400,
        f"header '{name}' is not supported by this service. Leave it out.",
        code="unsupported_header",
    )
