"""The customer-service page: a chat whose answers stream, and what each question was about.

The page holds no model and no key that a browser could see; everything it shows comes from the
service over HTTP. It keeps looking for the service and says so when it is away.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

import gradio as gr

from apps.client import ServiceClient, ServiceError
from apps.conversation import Exchange, chat_messages, stream_answer
from apps.fragments import (
    banner,
    explain,
    greeting,
    header,
    intent_card,
    readable,
    status_pill,
)
from apps.layout import Page, lay_out
from apps.phrases import Phrases, load_phrases
from apps.replies import Classification
from apps.watch import Offer, ServiceWatch

__all__ = ["build_customer_service"]

_LOOK_EVERY_S = 3.0
_DRAW_EVERY_S = 0.1
"""A browser redraws the whole conversation, so pieces of text are gathered."""
_NUM_CANDIDATES = 4
_UPDATE = dict[Any, Any]


def build_customer_service(client: ServiceClient) -> gr.Blocks:
    """The page as Gradio blocks, not yet served; it asks the service of ``client``."""
    phrases = load_phrases()
    first = next(iter(phrases.values()))
    with gr.Blocks(title=first.title, analytics_enabled=False, fill_width=True) as blocks:
        page = lay_out(phrases)
        _Events(page, phrases, client).connect(blocks)
    # every open page holds a slot only while it is answered; the rest wait, and then are refused
    blocks.queue(default_concurrency_limit=16, max_size=64, api_open=False)
    return blocks


class _Events:
    """What happens when someone asks, stops, clears, changes the language, or just waits."""

    def __init__(self, page: Page, phrases: dict[str, Phrases], client: ServiceClient) -> None:
        self._page = page
        self._phrases = phrases
        self._client = client
        self._watch = ServiceWatch(client)

    def connect(self, blocks: gr.Blocks) -> None:
        """Attaches everything to the page; nothing of it is a public endpoint."""
        page = self._page
        asking = [page.exchanges, page.language]
        asks = [
            source(
                self.ask,
                [text, *asking],
                page.conversation,
                show_progress="hidden",
                api_visibility="private",
            )
            for source, text in [
                (page.question.submit, page.question),
                *((chip.click, chip) for chip in page.chips),
            ]
        ]
        quiet = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        page.question.stop(self.stop, asking, page.conversation, cancels=asks, **quiet)
        page.chat.clear(self.clear, page.language, page.conversation, cancels=asks, **quiet)
        page.language.change(
            self.translate, [page.language, page.exchanges, page.seen], page.worded, **quiet
        )
        looked_at = [page.status, page.banner]
        blocks.load(self.look, page.language, looked_at, **quiet)
        gr.Timer(_LOOK_EVERY_S).tick(self.look, page.language, looked_at, **quiet)

    async def ask(
        self, text: str, exchanges: list[Exchange], language: str
    ) -> AsyncIterator[_UPDATE]:
        """Classifies a question, then streams its answer."""
        phrases = self._phrases[language]
        if not text.strip():
            yield {self._page.question: ""}
            return
        current = Exchange(text.strip())
        yield self._busy(phrases) | self._shown([*exchanges, current], phrases)
        drawn_at = monotonic()
        try:
            offer = await self._offer()
            classification = await self._classify(current, offer)
            yield self._recognised(classification, offer, phrases)
            async for grown in self._answer([*exchanges, current], offer, classification, phrases):
                current = grown
                if monotonic() - drawn_at >= _DRAW_EVERY_S:
                    drawn_at = monotonic()
                    yield self._shown([*exchanges, current], phrases)
        except ServiceError as error:
            self._watch.forget()
            current = replace(current, problem=explain(error, phrases))
        yield self._shown([*exchanges, current], phrases) | self._idle(phrases)

    async def _offer(self) -> Offer:
        offer = await self._watch.look()
        if not offer.is_available:
            self._watch.forget()  # it may be back since the last look
            offer = await self._watch.look()
        if offer.problem is not None:
            raise offer.problem
        return offer

    async def _classify(self, current: Exchange, offer: Offer) -> Classification | None:
        if offer.classifier is None:
            return None
        return await self._client.classify(
            current.question, model=offer.classifier, top_k=_NUM_CANDIDATES
        )

    async def _answer(
        self,
        exchanges: Sequence[Exchange],
        offer: Offer,
        classification: Classification | None,
        phrases: Phrases,
    ) -> AsyncIterator[Exchange]:
        """The last exchange as its answer grows."""
        current = exchanges[-1]
        if offer.chat_model is None:
            label = readable(classification.label) if classification else ""
            yield replace(current, note=f"{phrases.no_chat_model} {label}.")
            return
        async for piece in stream_answer(self._client, offer.chat_model, exchanges):
            current = replace(current, answer=current.answer + piece)
            yield current
        if not current.answer:
            yield replace(current, note=phrases.nothing_written)

    def stop(self, exchanges: list[Exchange], language: str) -> _UPDATE:
        """Keeps what has been written."""
        phrases = self._phrases[language]
        kept = [*exchanges[:-1], *(replace(last, note=phrases.stopped) for last in exchanges[-1:])]
        return self._shown(kept, phrases) | self._idle(phrases)

    def clear(self, language: str) -> _UPDATE:
        """An empty conversation."""
        phrases = self._phrases[language]
        empty = {self._page.seen: None, self._page.intent: intent_card(None, phrases)}
        return self._shown([], phrases) | self._idle(phrases) | empty

    async def look(self, language: str) -> _UPDATE:
        """How the service is."""
        phrases = self._phrases[language]
        offer = await self._watch.look()
        return {
            self._page.status: status_pill(offer, phrases),
            self._page.banner: gr.update(
                value=banner(offer, phrases), visible=not offer.is_available
            ),
        }

    async def translate(
        self, language: str, exchanges: list[Exchange], seen: Classification | None
    ) -> _UPDATE:
        """The page in another language; what was said stays as it was."""
        page, phrases = self._page, self._phrases[language]
        offer = await self._watch.look()
        return {
            page.header: header(phrases),
            page.chat: gr.update(
                value=chat_messages(exchanges, problem_title=phrases.no_answer),
                placeholder=greeting(phrases),
            ),
            page.question: gr.update(
                placeholder=phrases.input, label=phrases.input, submit_btn=phrases.send
            ),
            page.intent: intent_card(seen, phrases, is_served=offer.has_classifier),
            **dict(zip(page.chips, phrases.example_questions, strict=True)),
            **(await self.look(language)),
        }

    def _shown(self, exchanges: Sequence[Exchange], phrases: Phrases) -> _UPDATE:
        messages = chat_messages(exchanges, problem_title=phrases.no_answer)
        return {self._page.exchanges: list(exchanges), self._page.chat: messages}

    def _recognised(
        self, classification: Classification | None, offer: Offer, phrases: Phrases
    ) -> _UPDATE:
        card = intent_card(classification, phrases, is_served=offer.has_classifier)
        return {self._page.seen: classification, self._page.intent: card}

    def _busy(self, phrases: Phrases) -> _UPDATE:
        box = gr.update(value="", submit_btn=False, stop_btn=phrases.stop)
        return {self._page.question: box, **self._chips(interactive=False)}

    def _idle(self, phrases: Phrases) -> _UPDATE:
        box = gr.update(submit_btn=phrases.send, stop_btn=False)
        return {self._page.question: box, **self._chips(interactive=True)}

    def _chips(self, *, interactive: bool) -> _UPDATE:
        return {chip: gr.update(interactive=interactive) for chip in self._page.chips}
