"""The service's HTTP interface as Python: what a page needs of it, typed, with one kind of error.

Knows nothing of the service but its URL. Replies are checked at this border, so a page that
talks to something else at that URL hears so instead of failing on a missing key.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from apps.replies import Chunk, Classification, Classifications, Failure, Model, Models, Problem

__all__ = ["Message", "ServiceClient", "ServiceError"]

_TIMEOUT = httpx.Timeout(60.0, connect=3.0)
"""Between two bytes, not for the whole reply: a streamed one may take longer."""

R = TypeVar("R", bound=BaseModel)


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


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ServiceClient:
    """Asks one service; use it from one event loop, and close it."""

    def __init__(self, url: str, *, api_key: str = "") -> None:
        """A client of the service at ``url``; ``api_key`` goes with every request."""
        self.url = url.rstrip("/")
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        # trust_env: a proxy of the environment would be asked for loopback addresses too
        self._http = httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=_TIMEOUT, trust_env=False
        )

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def check_ready(self) -> None:
        """Returns where the service would answer a request.

        Raises:
            ServiceError: it is away, or says why it is not ready.
        """
        async with self._answers():
            _check(await self._http.get("/readyz"))

    async def models(self) -> list[Model]:
        """The models that the service offers.

        Raises:
            ServiceError: it is away or refuses, such as for a wrong key.
        """
        async with self._answers():
            reply = await self._http.get("/v1/models")
            return self._parse(Models, reply).data

    async def classify(
        self, text: str, *, model: str | None = None, top_k: int = 3
    ) -> Classification:
        """The ``top_k`` most probable labels of ``text``.

        Raises:
            ServiceError: the service is away or refuses.
        """
        body = _without_none({"input": text, "top_k": top_k, "model": model})
        async with self._answers():
            reply = await self._http.post("/v1/classify", json=body)
            answers = self._parse(Classifications, reply).data
        if not answers:
            raise self._strange("no classification in the reply", status=reply.status_code)
        return answers[0]

    async def chat(
        self, messages: Sequence[Message], *, model: str | None = None
    ) -> AsyncIterator[str]:
        """The next turn of a conversation, piece by piece as the model writes it.

        Leaving the loop early closes the connection, which frees the service's slot.

        Raises:
            ServiceError: the service is away, refuses, or breaks off in the middle.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        body = _without_none({"messages": turns, "stream": True, "model": model})
        request = self._http.stream("POST", "/v1/chat/completions", json=body)
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
                for text in self._pieces(data):
                    yield text
        raise ServiceError("The service broke off in the middle of its reply. Ask again.")

    def _pieces(self, data: str) -> list[str]:
        """The texts of one event."""
        failure = _failure(data)
        if failure is not None:
            raise ServiceError(failure.message, status=200, code=failure.code)
        try:
            choices = Chunk.model_validate_json(data).choices
        except ValidationError:
            raise self._strange("an event of its stream is not OpenAI's", status=200) from None
        return [choice.delta.content for choice in choices if choice.delta.content]

    def _parse(self, kind: type[R], reply: httpx.Response) -> R:
        _check(reply)
        try:
            return kind.model_validate_json(reply.content)
        except ValidationError:
            raise self._strange("its reply has another shape", status=reply.status_code) from None

    def _strange(self, why: str, *, status: int) -> ServiceError:
        return ServiceError(
            f"What answers at {self.url} does not speak like the service: {why}. "
            "Check the URL and the version.",
            status=status,
        )

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


def _without_none(tree: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in tree.items() if value is not None}
