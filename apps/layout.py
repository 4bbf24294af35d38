"""Where everything stands on the customer-service page; what it does is in `customer_service`."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from apps.fragments import greeting, header, intent_card, status_pill
from apps.phrases import Phrases

__all__ = ["Page", "lay_out"]

_LONGEST_QUESTION = 2000
_STATE_LIVES_S = 3600


@dataclass(frozen=True, slots=True)
class Page:
    """The components that events read and change."""

    header: Any
    language: Any
    status: Any
    banner: Any
    chat: Any
    chips: tuple[Any, ...]
    question: Any
    intent: Any
    exchanges: Any
    """State: every `Exchange` so far."""
    seen: Any
    """State: the last `Classification`."""

    @property
    def conversation(self) -> list[Any]:
        """What changes while a question is answered."""
        return [self.question, self.exchanges, self.seen, self.chat, self.intent, *self.chips]

    @property
    def worded(self) -> list[Any]:
        """What is written in the page's language."""
        shown = [self.header, self.status, self.banner, self.chat, self.question]
        return [*shown, self.intent, *self.chips]


def lay_out(phrases: dict[str, Phrases]) -> Page:
    """The components in place, in the first language; to be called within `gr.Blocks`."""
    first = next(iter(phrases.values()))
    with gr.Row(elem_id="top"):
        title = gr.HTML(header(first), elem_id="header")
        with gr.Row(elem_id="controls"):
            status = gr.HTML(status_pill(None, first), elem_id="status")
            language = gr.Radio(
                [(words.name, code) for code, words in phrases.items()],
                value=next(iter(phrases)),
                label=first.language,
                show_label=False,
                container=False,
                elem_id="language",
            )
    note = gr.HTML(visible=False, elem_id="banner")
    with gr.Row(elem_id="main"):
        with gr.Column(scale=7, min_width=320):
            chat, chips, question = _lay_out_chat(first)
        with gr.Column(scale=4, min_width=300):
            intent = gr.HTML(intent_card(None, first), elem_id="intent")
    exchanges = gr.State([], time_to_live=_STATE_LIVES_S)
    seen = gr.State(None, time_to_live=_STATE_LIVES_S)
    return Page(title, language, status, note, chat, chips, question, intent, exchanges, seen)


def _lay_out_chat(first: Phrases) -> tuple[Any, tuple[Any, ...], Any]:
    chat = gr.Chatbot(
        show_label=False,
        elem_id="chat",
        height="min(50vh, 560px)",
        placeholder=greeting(first),
        render_markdown=False,  # a model's answer must not be able to load a picture
        buttons=[],
        feedback_options=None,
    )
    with gr.Row(elem_id="chips"):
        chips = tuple(gr.Button(text, size="sm") for text in first.example_questions)
    question = gr.Textbox(
        placeholder=first.input,
        label=first.input,
        show_label=False,
        submit_btn=first.send,
        max_length=_LONGEST_QUESTION,
        max_lines=5,
        elem_id="question",
        autofocus=True,
    )
    return chat, chips, question
