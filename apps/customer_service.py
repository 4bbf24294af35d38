"""The customer-service page: approved answers with their sources, or a chat model that writes."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from time import monotonic
from typing import Any

import gradio as gr

from apps.answering import Subject, answer
from apps.client import AsyncClient, ServiceError
from apps.client.assistant import Verdict
from apps.conversation import Exchange, Mode, changed
from apps.layouts.customer_service import ServiceLayout, lay_out_customer_service, mode_choices
from apps.layouts.shell import ShellLayout
from apps.phrases import Phrases
from apps.replies.texts import Classification
from apps.turn import Turn
from apps.views.actions import event_value
from apps.views.conversation import conversation_log
from apps.views.fragments import explain, notice
from apps.views.intent import intent_card
from apps.watch import Offer, ServiceWatch

__all__ = ["place_customer_service"]

_DRAW_EVERY_S = 0.1
"""A browser redraws the whole conversation, so pieces of text are gathered."""
_UPDATE = dict[Any, Any]


def place_customer_service(
    shell: ShellLayout, phrases: dict[str, Phrases], client: AsyncClient, watch: ServiceWatch
) -> None:
    """Puts the page into the tab that is open in Gradio's context."""
    first = next(iter(phrases.values()))
    page = lay_out_customer_service(first.customer_service)
    _Events(page, shell, phrases, client, watch).connect()


class _Events:
    """What happens when someone asks, stops, rates, opens a document, clears, or just waits."""

    def __init__(
        self,
        page: ServiceLayout,
        shell: ShellLayout,
        phrases: dict[str, Phrases],
        client: AsyncClient,
        watch: ServiceWatch,
    ) -> None:
        self._page = page
        self._shell = shell
        self._phrases = phrases
        self._client = client
        self._watch = watch

    def connect(self) -> None:
        """Attaches everything to the page; nothing of it is a public endpoint."""
        page, language = self._page, self._shell.language
        said = [page.exchanges, page.turn, page.mode, language]
        shown = {"show_progress": "hidden", "api_visibility": "private"}
        asks = [
            page.question.submit(self.ask, [page.question, *said], page.conversation, **shown),
            page.log.ask(self.ask_suggested, said, page.conversation, **shown),
            page.log.write(self.ask_the_model, said, page.conversation, **shown),
            page.log.person(self.ask_for_person, said, page.conversation, **shown),
            page.person.click(self.ask_for_person, said, page.conversation, **shown),
        ]
        quiet = {**shown, "queue": False}
        known = [page.exchanges, language]
        noted = [page.exchanges, page.log]
        ended = {**quiet, "cancels": asks}
        page.question.stop(self.stop, [page.turn, *known], page.conversation, **ended)
        page.clear.click(self.clear, [page.turn, language], page.conversation, **ended)
        page.log.rate(self.rate, known, noted, **quiet)
        page.log.document(self.show_document, known, noted, **quiet)
        worded = [language, page.exchanges, page.seen, page.turn]
        for changes in (language.change, self._shell.offer_key.change):
            changes(self.show, worded, page.worded, **quiet)

    async def ask(
        self, text: str, exchanges: list[Exchange], turn: Turn, mode: Mode, language: str
    ) -> AsyncIterator[_UPDATE]:
        """Answers a question."""
        if not text.strip():
            yield {self._page.question: ""}
            return
        mine = turn.take()
        try:
            said = [*exchanges, Exchange(text.strip())]
            async with aclosing(self._answered(said, turn, mine, mode, language)) as updates:
                async for update in updates:
                    yield update
        finally:
            if not turn.is_over(mine):
                turn.give_back()

    async def _answered(
        self, said: list[Exchange], turn: Turn, mine: int, mode: Mode, language: str
    ) -> AsyncGenerator[_UPDATE, None]:
        """The page as the answer to the last question grows."""
        phrases = self._phrases[language]
        *exchanges, current = said
        yield self._busy(phrases) | self._said(said, phrases, is_busy=True)
        drawn_at = monotonic()
        offer = Offer()
        try:
            offer = await self._watch.look_again()
            words = phrases.customer_service
            async with aclosing(
                answer(self._client, offer, said, mode=mode, phrases=words)
            ) as steps:
                async for current, subject in steps:
                    if turn.is_over(mine):
                        break
                    if subject is not None or monotonic() - drawn_at >= _DRAW_EVERY_S:
                        drawn_at = monotonic()
                        shown = self._said([*exchanges, current], phrases, is_busy=True)
                        yield shown | (self._recognised(subject, phrases) if subject else {})
        except ServiceError as error:
            self._watch.forget()
            current = replace(current, problem=explain(error, phrases.shell))
        if turn.is_over(mine):
            yield gr.skip()
            return
        done = self._said([*exchanges, current], phrases, can_write=_can_write(offer))
        yield done | self._idle(phrases)

    async def ask_suggested(
        self, exchanges: list[Exchange], turn: Turn, mode: Mode, language: str, event: gr.EventData
    ) -> AsyncIterator[_UPDATE]:
        """Answers a question that the page offered."""
        async for update in self.ask(event_value(event, "text"), exchanges, turn, mode, language):
            yield update

    async def ask_for_person(
        self, exchanges: list[Exchange], turn: Turn, mode: Mode, language: str
    ) -> AsyncIterator[_UPDATE]:
        """Asks how to reach a person."""
        question = self._phrases[language].customer_service.person_question
        async for update in self.ask(question, exchanges, turn, mode, language):
            yield update

    async def ask_the_model(
        self, exchanges: list[Exchange], turn: Turn, mode: Mode, language: str
    ) -> AsyncIterator[_UPDATE]:
        """Lets the chat model answer the last question."""
        del mode
        question = exchanges[-1].question if exchanges else ""
        async for update in self.ask(question, exchanges, turn, "model", language):
            yield update

    async def stop(self, turn: Turn, exchanges: list[Exchange], language: str) -> _UPDATE:
        """Keeps what has been written."""
        turn.give_back()
        phrases = self._phrases[language]
        note = phrases.customer_service.stopped
        kept = [*exchanges[:-1], *(replace(last, note=note) for last in exchanges[-1:])]
        return self._said(kept, phrases) | self._idle(phrases)

    async def clear(self, turn: Turn, language: str) -> _UPDATE:
        """An empty conversation."""
        turn.give_back()
        phrases = self._phrases[language]
        return (
            self._said([], phrases) | self._idle(phrases) | self._recognised(Subject(None), phrases)
        )

    async def rate(self, exchanges: list[Exchange], language: str, event: gr.EventData) -> _UPDATE:
        """Tells the service whether an answer helped."""
        reason = event_value(event, "reason")
        verdict: Verdict = "up" if event_value(event, "verdict") == "up" else "down"

        async def tell(exchange: Exchange) -> Exchange:
            assert exchange.reply is not None
            await self._client.assistant.rate(exchange.reply.id, verdict, reason=reason or None)
            return replace(exchange, verdict=verdict, reason=reason)

        return await self._noted(exchanges, language, event, tell)

    async def show_document(
        self, exchanges: list[Exchange], language: str, event: gr.EventData
    ) -> _UPDATE:
        """Shows a whole document around its passage, or the passage alone again."""
        wanted = event_value(event, "document")

        async def fetch(exchange: Exchange) -> Exchange:
            others = tuple(doc for doc in exchange.documents if doc.id != wanted)
            if len(others) == len(exchange.documents):
                document = await self._client.assistant.document(wanted)
                others = (*others, document.model_copy(update={"id": wanted}))
            return replace(exchange, documents=others)

        return await self._noted(exchanges, language, event, fetch)

    async def _noted(
        self,
        exchanges: list[Exchange],
        language: str,
        event: gr.EventData,
        change: Callable[[Exchange], Awaitable[Exchange]],
    ) -> _UPDATE:
        """The conversation after ``change`` of the exchange that the event names."""
        phrases = self._phrases[language]
        number = event_value(event, "index")
        index = int(number) if number.isdigit() else len(exchanges)
        if index >= len(exchanges) or exchanges[index].reply is None:
            return self._said(exchanges, phrases)
        try:
            exchange = replace(await change(exchanges[index]), remark="")
        except ServiceError as error:
            self._watch.forget()
            exchange = replace(exchanges[index], remark=explain(error, phrases.shell))
        offer = await self._watch.look()
        said = changed(exchanges, index, exchange)
        return self._said(said, phrases, can_write=_can_write(offer))

    async def show(
        self, language: str, exchanges: list[Exchange], seen: Classification | None, turn: Turn
    ) -> _UPDATE:
        """The page in its language and for what the service offers; what was said stays."""
        page, phrases = self._page, self._phrases[language]
        words, known = phrases.customer_service, turn.number
        offer = await self._watch.look()
        there = not offer.is_available or offer.has_conversation
        both = offer.has_assistant and offer.chat_model is not None
        absent = notice(words.absent, words.absent_hint, kind="absent")
        shown: _UPDATE = {
            page.absent: gr.update(value=absent, visible=not there),
            page.content: gr.update(visible=there),
            page.question: gr.update(
                placeholder=words.input, label=words.input, submit_btn=words.send
            ),
            page.mode: gr.update(choices=mode_choices(words), label=words.mode, visible=both),
            page.person: gr.update(value=words.person),
            page.clear: gr.update(value=words.clear),
        }
        if turn.is_taken or turn.is_over(known):  # what was read is not what is there
            return shown
        return shown | {
            page.log: conversation_log(exchanges, words, can_write=_can_write(offer)),
            page.intent: intent_card(seen, words, is_served=offer.has_intents),
        }

    def _said(
        self,
        exchanges: Sequence[Exchange],
        phrases: Phrases,
        *,
        is_busy: bool = False,
        can_write: bool = False,
    ) -> _UPDATE:
        words = phrases.customer_service
        log = conversation_log(exchanges, words, is_busy=is_busy, can_write=can_write)
        return {self._page.exchanges: list(exchanges), self._page.log: log}

    def _recognised(self, subject: Subject, phrases: Phrases) -> _UPDATE:
        card = intent_card(
            subject.classification, phrases.customer_service, is_served=subject.is_sought
        )
        return {self._page.seen: subject.classification, self._page.intent: card}

    def _busy(self, phrases: Phrases) -> _UPDATE:
        box = gr.update(value="", submit_btn=False, stop_btn=phrases.customer_service.stop)
        return {self._page.question: box, self._page.person: gr.update(interactive=False)}

    def _idle(self, phrases: Phrases) -> _UPDATE:
        box = gr.update(submit_btn=phrases.customer_service.send, stop_btn=False)
        return {self._page.question: box, self._page.person: gr.update(interactive=True)}


def _can_write(offer: Offer) -> bool:
    return offer.chat_model is not None
