"""What stands around every page: the title, the state of the service, the language, the tabs."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from apps.phrases import Phrases
from apps.views.fragments import header, status_pill

__all__ = ["PAGE_IDS", "ShellLayout", "lay_out_shell", "page_words"]

PAGE_IDS = ("service", "monitor", "recommend")
"""The pages in their order; ``?tab=monitor`` opens the second."""


@dataclass(frozen=True, slots=True)
class ShellLayout:
    """The components that events read and change."""

    header: Any
    language: Any
    status: Any
    banner: Any
    offer_key: Any
    """Equal as long as the service offers the same; pages listen to its change."""
    page: Any
    """The id of the open page; pages listen to its change."""


def lay_out_shell(phrases: dict[str, Phrases]) -> ShellLayout:
    """Everything above the tabs, in the first language; to be called within `gr.Blocks`."""
    first = next(iter(phrases.values()))
    with gr.Row(elem_id="top"):
        title = gr.HTML(header(*page_words(PAGE_IDS[0], first)), elem_id="header")
        with gr.Row(elem_id="controls"):
            status = gr.HTML(status_pill(None, first.shell), elem_id="status")
            language = gr.Radio(
                [(words.name, code) for code, words in phrases.items()],
                value=next(iter(phrases)),
                label=first.shell.language,
                show_label=False,
                container=False,
                elem_id="language",
                elem_classes="segments",
            )
    note = gr.HTML(visible=False, elem_id="banner")
    # no states: Gradio tells of a state's change only where the event was queued
    offer_key = gr.Textbox("", visible="hidden")
    page = gr.Textbox(PAGE_IDS[0], visible="hidden")
    return ShellLayout(title, language, status, note, offer_key, page)


def page_words(page: str, phrases: Phrases) -> tuple[str, str]:
    """The title of a page and what it is."""
    if page == "monitor":
        return phrases.opinion_monitor.title, phrases.opinion_monitor.description
    if page == "recommend":
        return phrases.recommendation.title, phrases.recommendation.description
    return phrases.customer_service.title, phrases.customer_service.disclosure
