"""Asking the assistant: approved answers with what they rest on."""

from typing import Literal

from apps.client.call import Call, get, nothing, offered, parsed, path_part, post
from apps.client.endpoint import AsyncPart, Part, endpoint
from apps.replies.assistant import Answer, Document

__all__ = ["AssistantClient", "AsyncAssistantClient", "Verdict"]

Verdict = Literal["up", "down"]


class AssistantCalls:
    """The routes under ``/v1/assistant``."""

    @endpoint
    def is_offered(self) -> Call[bool]:
        """Whether the service has these routes: it refuses the method, not the path.

        Raises:
            ServiceError: the service is away.
        """
        return get("/v1/assistant/answer", offered, is_retried=False)

    @endpoint
    def answer(self, question: str, *, language: str | None = None) -> Call[Answer]:
        """What may be said to ``question``.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return post("/v1/assistant/answer", parsed(Answer), question=question, language=language)

    @endpoint
    def document(self, document_id: str) -> Call[Document]:
        """A whole document.

        Raises:
            ServiceError: there is none of this id, or the service is away or refuses.
        """
        return get(f"/v1/assistant/knowledge/{path_part(document_id)}", parsed(Document))

    @endpoint
    def rate(self, answer_id: str, verdict: Verdict, *, reason: str | None = None) -> Call[None]:
        """Says whether an answer helped; a later verdict takes the place of an earlier one.

        Raises:
            ServiceError: the service is away or refuses.
        """
        return post(
            "/v1/assistant/feedback", nothing, answer_id=answer_id, verdict=verdict, reason=reason
        )


class AssistantClient(Part, AssistantCalls):
    """Asks and waits."""


class AsyncAssistantClient(AsyncPart, AssistantCalls):
    """Asks and is awaited."""
