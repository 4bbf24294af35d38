"""A conversation as the page remembers it, and how the next written answer is fetched."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from apps.client import AsyncClient, Message, ServiceError
from apps.replies.assistant import Answer, Document

__all__ = ["Exchange", "Mode", "changed", "stream_answer"]

Mode = Literal["approved", "model"]
"""Who answers: the assistant with approved texts, or the chat model in words of its own."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question with its answer so far; ``problem`` says why there is none, or no more."""

    question: str
    answer: str = ""
    note: str = ""
    """A remark of the page below the answer, which the model is never shown."""
    problem: str = ""
    reply: Answer | None = None
    """Where the assistant answered: what its answer rests on."""
    documents: tuple[Document, ...] = ()
    """Those that are shown whole."""
    verdict: str = ""
    """``up`` or ``down`` once somebody said whether it helped."""
    reason: str = ""
    """Why it did not help, where somebody said."""
    remark: str = ""
    """What failed when a document or a verdict was asked for."""


def changed(exchanges: Sequence[Exchange], index: int, exchange: Exchange) -> list[Exchange]:
    """The conversation with another exchange at ``index``."""
    return [*exchanges[:index], exchange, *exchanges[index + 1 :]]


async def stream_answer(
    client: AsyncClient, model: str, exchanges: Sequence[Exchange]
) -> AsyncIterator[str]:
    """The answer to the last exchange, piece by piece.

    A conversation that has outgrown the model loses its oldest turns until it fits.

    Raises:
        ServiceError: the service is away or refuses.
    """
    turns = _turns(exchanges)
    while True:
        try:
            async with client.stream_chat(turns, model=model) as pieces:
                async for piece in pieces:
                    if piece.text:
                        yield piece.text
            return
        except ServiceError as error:
            if error.code != "context_length_exceeded" or len(turns) == 1:
                raise
            turns = turns[2:]


def _turns(exchanges: Sequence[Exchange]) -> list[Message]:
    """What the model is shown: answered questions, and the last one."""
    *former, last = exchanges
    turns: list[Message] = []
    for exchange in former:
        is_known = exchange.reply is None or exchange.reply.kind != "unknown"
        if exchange.answer and is_known and not exchange.problem:
            turns.append(Message("user", exchange.question))
            turns.append(Message("assistant", exchange.answer))
    return [*turns, Message("user", last.question)]
