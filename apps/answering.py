"""How a question is answered: by the assistant, by the chat model, or only recognised."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from apps.client import AsyncClient
from apps.conversation import Exchange, Mode, stream_answer
from apps.phrases import ServicePhrases
from apps.replies.assistant import Intent
from apps.replies.texts import Classification, LabelScore
from apps.views.fragments import readable
from apps.watch import Offer

__all__ = ["Subject", "answer"]

_NUM_CANDIDATES = 4


@dataclass(frozen=True, slots=True)
class Subject:
    """What a question is about."""

    classification: Classification | None
    is_sought: bool = True
    """Whether there is anything that could tell."""


async def answer(
    client: AsyncClient,
    offer: Offer,
    exchanges: Sequence[Exchange],
    *,
    mode: Mode,
    phrases: ServicePhrases,
) -> AsyncGenerator[tuple[Exchange, Subject | None], None]:
    """The last exchange as its answer grows, with its subject in the step in which it is known.

    Raises:
        ServiceError: the service is away or refuses.
    """
    current = exchanges[-1]
    if offer.has_assistant and (mode == "approved" or offer.chat_model is None):
        reply = await client.assistant.answer(current.question)
        subject = Subject(_classification(reply.intent), is_sought=reply.intent is not None)
        yield replace(current, reply=reply, answer=reply.answer), subject
        return
    subject = await _subject(client, offer, current)
    yield current, subject
    if offer.chat_model is None:
        found = subject.classification
        label = readable(found.label) if found else ""
        yield replace(current, note=f"{phrases.no_chat_model} {label}."), None
        return
    async for piece in stream_answer(client, offer.chat_model, exchanges):
        current = replace(current, answer=current.answer + piece)
        yield current, None
    if not current.answer:
        yield replace(current, note=phrases.nothing_written), None


async def _subject(client: AsyncClient, offer: Offer, exchange: Exchange) -> Subject:
    if offer.classifier is None:
        return Subject(None, is_sought=False)
    return Subject(
        await client.classify(exchange.question, model=offer.classifier, top_k=_NUM_CANDIDATES)
    )


def _classification(intent: Intent | None) -> Classification | None:
    if intent is None:
        return None
    top = LabelScore(label=intent.label, score=intent.score)
    scores = [top, *intent.alternatives]
    return Classification(label=intent.label, score=intent.score, scores=scores)
