"""Calls and replies as values: what is sent and how the reply is read, without any I/O.

Every endpoint is described once, by a function that makes a `Call`; the transports carry it out,
one waiting and one with ``await``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Generic, Literal, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from apps.client.errors import ServiceError, refused
from apps.replies.operation import Failure, Nothing, Problem

__all__ = [
    "Call",
    "Reply",
    "StreamCall",
    "Tree",
    "failure_of",
    "get",
    "given",
    "nothing",
    "offered",
    "parsed",
    "path_part",
    "picked",
    "post",
    "strange",
]

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
Tree = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply, whatever its status."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    url: str
    """Of the service that was asked."""
    request_id: str

    def check(self) -> None:
        """Returns where the service did what it was asked.

        Raises:
            ServiceError: with what the service says.
        """
        if 200 <= self.status < 300:
            return
        problem = failure_of(self.content) or Problem(
            message=f"The service answered {self.status}."
        )
        raise refused(
            problem,
            status=self.status,
            request_id=self.request_id,
            retry_after_s=_seconds_until(self.headers.get("retry-after"), datetime.now(UTC)),
        )

    def parse(self, kind: type[M]) -> M:
        """The reply as what it should be.

        Raises:
            ServiceError: the service refuses, or what answers is not this service.
        """
        self.check()
        try:
            return kind.model_validate_json(self.content)
        except ValidationError:
            raise self.strange("its reply has another shape") from None

    def strange(self, why: str) -> ServiceError:
        """The error for a reply that is not this service's."""
        return strange(why, self.url, status=self.status, request_id=self.request_id)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and what becomes of its reply."""

    method: Literal["GET", "POST"]
    path: str
    read: Callable[[Reply], T]
    """Raises ServiceError where the reply is a refusal or strange."""
    params: Mapping[str, str] = field(default_factory=dict)
    body: Tree | None = None
    is_retried: bool = True
    """Whether a failure is worth another attempt; every call of ours may come twice."""


@dataclass(frozen=True, slots=True)
class StreamCall(Generic[T]):
    """One request whose reply is a stream of server-sent events that ends in [DONE]."""

    path: str
    body: Tree
    read: Callable[[str], T | None]
    """The data of an event as a value, None for nothing; raises pydantic's ValidationError."""


def get(
    path: str, read: Callable[[Reply], T], *, is_retried: bool = True, **params: object
) -> Call[T]:
    """A call without a body; parameters that are None are left out."""
    shown = {name: str(value) for name, value in given(params).items()}
    return Call("GET", path, read, params=shown, is_retried=is_retried)


def post(path: str, read: Callable[[Reply], T], **body: object) -> Call[T]:
    """A call with a body; fields that are None are left out."""
    return Call("POST", path, read, body=given(body))


def parsed(kind: type[M]) -> Callable[[Reply], M]:
    """Reads a reply as ``kind``."""
    return lambda reply: reply.parse(kind)


def picked(kind: type[M], pick: Callable[[M], T]) -> Callable[[Reply], T]:
    """Reads a reply as ``kind`` and gives what ``pick`` takes of it."""
    return lambda reply: pick(reply.parse(kind))


def nothing(reply: Reply) -> None:
    """Reads a reply of which only the success matters."""
    reply.parse(Nothing)


def offered(reply: Reply) -> bool:
    """Whether the service has the route, whatever it says to the request."""
    return reply.status != 404


def path_part(text: str) -> str:
    """``text`` as one segment of a path."""
    return quote(text, safe="")


def strange(why: str, url: str, *, status: int, request_id: str) -> ServiceError:
    """The error for what does not speak like the service."""
    return ServiceError(
        f"What answers at {url} does not speak like the service: {why}. "
        "Check the URL and the version.",
        status=status,
        request_id=request_id,
    )


def failure_of(content: bytes | str) -> Problem | None:
    """The error in OpenAI's shape that ``content`` is, or None."""
    try:
        return Failure.model_validate_json(content).error
    except ValidationError:
        return None


def given(tree: Tree) -> dict[str, object]:
    """The fields that are set."""
    return {name: value for name, value in tree.items() if value is not None}


def _seconds_until(text: str | None, now: datetime) -> float | None:
    """Retry-After in seconds, from either of its forms; None for what is neither."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    return max(0.0, seconds) if isfinite(seconds) else None
