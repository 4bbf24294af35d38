"""Asking the assistant: approved answers with what they rest on."""

from typing import Literal

from apps.client.transport import Transport, path_part
from apps.replies.assistant import Answer, Document
from apps.replies.models import Nothing

__all__ = ["AssistantClient", "Verdict"]

Verdict = Literal["up", "down"]


class AssistantClient:
    """The routes under ``/v1/assistant``."""

    def __init__(self, transport: Transport) -> None:
        """Asks through ``transport``."""
        self._transport = transport

    async def is_offered(self) -> bool:
        """Whether the service has these routes: it refuses the method, not the path.

        Raises:
            ServiceError: the service is away.
        """
        return await self._transport.status("/v1/assistant/answer") != 404

    async def answer(self, question: str, *, language: str | None = None) -> Answer:
        """What may be said to ``question``.

        Raises:
            ServiceError: the service is away or refuses.
        """
        body = {"question": question, "language": language}
        return await self._transport.post(Answer, "/v1/assistant/answer", body=body)

    async def document(self, document_id: str) -> Document:
        """A whole document.

        Raises:
            ServiceError: there is none of this id, or the service is away or refuses.
        """
        path = f"/v1/assistant/knowledge/{path_part(document_id)}"
        return await self._transport.get(Document, path)

    async def rate(self, answer_id: str, verdict: Verdict, *, reason: str | None = None) -> None:
        """Says whether an answer helped.

        Raises:
            ServiceError: the service is away or refuses.
        """
        body = {"answer_id": answer_id, "verdict": verdict, "reason": reason}
        await self._transport.post(Nothing, "/v1/assistant/feedback", body=body)
