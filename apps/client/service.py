"""What every page asks: readiness, models, a classification, a chat; and doors to the rest."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from pydantic import ValidationError

from apps.client.assistant import AssistantClient
from apps.client.monitor import MonitorClient
from apps.client.recommend import RecommendClient
from apps.client.transport import Transport
from apps.replies.models import Chunk, Classification, Classifications, Model, Models

__all__ = ["Message", "ServiceClient"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ServiceClient:
    """Asks one service; use it from one event loop, and close it."""

    def __init__(self, url: str, *, api_key: str = "") -> None:
        """A client of the service at ``url``; ``api_key`` goes with every request."""
        self._transport = Transport(url, api_key=api_key)
        self.assistant = AssistantClient(self._transport)
        self.monitor = MonitorClient(self._transport)
        self.recommend = RecommendClient(self._transport)

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
        await self._transport.aclose()

    async def check_ready(self) -> None:
        """Returns where the service would answer a request.

        Raises:
            ServiceError: it is away, or says why it is not ready.
        """
        await self._transport.check("/readyz")

    async def models(self) -> list[Model]:
        """The models that the service offers.

        Raises:
            ServiceError: it is away or refuses, such as for a wrong key.
        """
        return (await self._transport.get(Models, "/v1/models")).data

    async def classify(
        self, text: str, *, model: str | None = None, top_k: int = 3
    ) -> Classification:
        """The ``top_k`` most probable labels of ``text``.

        Raises:
            ServiceError: the service is away or refuses.
        """
        body = {"input": text, "top_k": top_k, "model": model}
        reply = await self._transport.post(Classifications, "/v1/classify", body=body)
        if not reply.data:
            raise self._transport.strange("no classification in the reply", status=200)
        return reply.data[0]

    async def chat(
        self, messages: Sequence[Message], *, model: str | None = None
    ) -> AsyncIterator[str]:
        """The next turn of a conversation, piece by piece as the model writes it.

        Leaving the loop early closes the connection, which frees the service's slot.

        Raises:
            ServiceError: the service is away, refuses, or breaks off in the middle.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        body = {"messages": turns, "stream": True, "model": model}
        async for data in self._transport.events("/v1/chat/completions", body=body):
            for text in self._pieces(data):
                yield text

    def _pieces(self, data: str) -> list[str]:
        """The texts of one event."""
        try:
            choices = Chunk.model_validate_json(data).choices
        except ValidationError:
            why = "an event of its stream is not OpenAI's"
            raise self._transport.strange(why, status=200) from None
        return [choice.delta.content for choice in choices if choice.delta.content]
