"""A conversation as the page remembers it, and how the next answer is fetched."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

from apps.client import Message, ServiceClient, ServiceError

__all__ = ["ChatMessage", "Exchange", "chat_messages", "stream_answer"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question with its answer so far; ``problem`` says why there is none, or no more."""

    question: str
    answer: str = ""
    note: str = ""
    """A remark of the page below the answer, which the model is never shown."""
    problem: str = ""


class ChatMessage(TypedDict):
    """One bubble, as Gradio's chatbot takes it."""

    role: str
    content: str


def chat_messages(exchanges: Sequence[Exchange], *, problem_title: str) -> list[ChatMessage]:
    """The bubbles of a conversation, problems included."""
    messages: list[ChatMessage] = []
    for exchange in exchanges:
        messages.append({"role": "user", "content": exchange.question})
        shown = "\n\n".join(part for part in (exchange.answer, exchange.note) if part)
        if shown:
            messages.append({"role": "assistant", "content": shown})
        if exchange.problem:
            problem = f"{problem_title} {exchange.problem}"
            messages.append({"role": "assistant", "content": problem})
    return messages


async def stream_answer(
    client: ServiceClient, model: str, exchanges: Sequence[Exchange]
) -> AsyncIterator[str]:
    """The answer to the last exchange, piece by piece.

    A conversation that has outgrown the model loses its oldest turns until it fits.

    Raises:
        ServiceError: the service is away or refuses.
    """
    turns = _turns(exchanges)
    while True:
        try:
            async for piece in client.chat(turns, model=model):
                yield piece
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
        if exchange.answer and not exchange.problem:
            turns.append(Message("user", exchange.question))
            turns.append(Message("assistant", exchange.answer))
    return [*turns, Message("user", last.question)]
