"""How a page asks the service: typed replies, and one kind of error.

Replies are checked at this border, so a page that talks to something else at that URL hears so
instead of failing on a missing key.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from apps.replies.models import Failure, Problem

__all__ = ["ServiceError", "Transport", "path_part", "without_none"]

_TIMEOUT = httpx.Timeout(60.0, connect=3.0)
"""Between two bytes, not for the whole reply: a streamed one may take longer."""

R = TypeVar("R", bound=BaseModel)
Tree = Mapping[str, object]


class ServiceError(Exception):
    """The service is away or refuses; the message is meant for the person who asked."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """``status`` is the HTTP status, None where there was no reply at all."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s

    @property
    def is_away(self) -> bool:
        """Whether nothing answered at the URL."""
        return self.status is None


class Transport:
    """Asks one service; use it from one event loop, and close it."""

    def __init__(self, url: str, *, api_key: str = "") -> None:
        """Asks the service at ``url``; ``api_key`` goes with every request."""
        self.url = url.rstrip("/")
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        # trust_env: a proxy of the environment would be asked for loopback addresses too
        self._http = httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=_TIMEOUT, trust_env=False
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def get(self, kind: type[R], path: str, *, params: Tree | None = None) -> R:
        """The reply of a GET.

        Raises:
            ServiceError: the service is away, refuses, or answers in another shape.
        """
        shown = {name: str(value) for name, value in without_none(params or {}).items()}
        async with self._answers():
            return self._parse(kind, await self._http.get(path, params=shown))

    async def post(self, kind: type[R], path: str, *, body: Tree) -> R:
        """The reply of a POST; fields of ``body`` that are None are left out.

        Raises:
            ServiceError: the service is away, refuses, or answers in another shape.
        """
        async with self._answers():
            return self._parse(kind, await self._http.post(path, json=without_none(body)))

    async def status(self, path: str) -> int:
        """The status of a GET, whatever it is.

        Raises:
            ServiceError: the service is away.
        """
        async with self._answers():
            return (await self._http.get(path)).status_code

    async def check(self, path: str) -> None:
        """Returns where a GET succeeds.

        Raises:
            ServiceError: the service is away or refuses.
        """
        async with self._answers():
            _check(await self._http.get(path))

    async def events(self, path: str, *, body: Tree) -> AsyncIterator[str]:
        """The data of every event that a POST streams, until ``[DONE]``.

        Leaving the loop early closes the connection.

        Raises:
            ServiceError: the service is away, refuses, or breaks off in the middle.
        """
        request = self._http.stream("POST", path, json=without_none(body))
        async with self._answers(), request as reply:
            if reply.is_error:
                await reply.aread()
            _check(reply)
            async for line in reply.aiter_lines():
                if not line.startswith("data:"):
                    continue
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                failure = _failure(data)
                if failure is not None:
                    raise ServiceError(failure.message, status=200, code=failure.code)
                yield data
        raise ServiceError("The service broke off in the middle of its reply. Ask again.")

    def strange(self, why: str, *, status: int) -> ServiceError:
        """The error for a reply that is not this service's."""
        return ServiceError(
            f"What answers at {self.url} does not speak like the service: {why}. "
            "Check the URL and the version.",
            status=status,
        )

    def _parse(self, kind: type[R], reply: httpx.Response) -> R:
        _check(reply)
        try:
            return kind.model_validate_json(reply.content)
        except ValidationError:
            raise self.strange("its reply has another shape", status=reply.status_code) from None

    @asynccontextmanager
    async def _answers(self) -> AsyncIterator[None]:
        """Turns every failure of the transport into a ServiceError."""
        try:
            yield
        except httpx.TimeoutException as error:
            raise ServiceError(f"The service at {self.url} does not answer in time.") from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ServiceError(
                f"The service at {self.url} cannot be reached. Start it, or check the URL."
            ) from error


def path_part(text: str) -> str:
    """``text`` as one segment of a path."""
    return quote(text, safe="")


def without_none(tree: Tree) -> dict[str, object]:
    """The fields that are set."""
    return {name: value for name, value in tree.items() if value is not None}


def _check(reply: httpx.Response) -> None:
    """Raises what the service says where it refuses."""
    if reply.is_success:
        return
    failure = _failure(reply.text)
    message = failure.message if failure else f"The service answered {reply.status_code}."
    raise ServiceError(
        message,
        status=reply.status_code,
        code=failure.code if failure else None,
        retry_after_s=_seconds(reply.headers.get("retry-after")),
    )


def _failure(text: str) -> Problem | None:
    """The error in OpenAI's shape that ``text`` is, or None."""
    try:
        return Failure.model_validate_json(text).error
    except ValidationError:
        return None


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is not used by the service."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
