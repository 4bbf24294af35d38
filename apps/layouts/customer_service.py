"""Where everything stands on the customer-service page."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from apps.phrases import ServicePhrases
from apps.turn import Turn
from apps.views.actions import acting_html
from apps.views.conversation import conversation_log
from apps.views.intent import intent_card

__all__ = ["ServiceLayout", "lay_out_customer_service", "mode_choices"]

_LONGEST_QUESTION = 1000
_STATE_LIVES_S = 3600


@dataclass(frozen=True, slots=True)
class ServiceLayout:
    """The components that events read and change."""

    absent: Any
    content: Any
    log: Any
    question: Any
    mode: Any
    person: Any
    clear: Any
    intent: Any
    exchanges: Any
    """State: every `Exchange` so far."""
    seen: Any
    """State: the last `Classification`."""
    turn: Any
    """State: the `Turn` of this visitor."""

    @property
    def conversation(self) -> list[Any]:
        """What changes while a question is answered."""
        return [self.question, self.exchanges, self.seen, self.log, self.intent, self.person]

    @property
    def worded(self) -> list[Any]:
        """What is written in the page's language, or depends on what the service offers."""
        boxes = [self.absent, self.content, self.log, self.question, self.intent]
        return [*boxes, self.mode, self.person, self.clear]


def lay_out_customer_service(phrases: ServicePhrases) -> ServiceLayout:
    """The components in place; to be called within the page's tab."""
    absent = gr.HTML(visible=False, elem_classes="missing")
    with gr.Row(elem_id="main") as content:
        with gr.Column(scale=7, min_width=320):
            log = acting_html(
                conversation_log([], phrases),
                *("ask", "write", "person", "rate", "document"),
                elem_id="chat",
                scripts=("conversation.js",),
            )
            question = gr.Textbox(
                placeholder=phrases.input,
                label=phrases.input,
                show_label=False,
                submit_btn=phrases.send,
                max_length=_LONGEST_QUESTION,
                max_lines=5,
                elem_id="question",
                autofocus=True,
            )
            with gr.Row(elem_id="under"):
                mode = gr.Radio(
                    mode_choices(phrases),
                    value="approved",
                    label=phrases.mode,
                    show_label=False,
                    container=False,
                    visible=False,
                    elem_id="mode",
                    elem_classes="segments",
                )
                person = gr.Button(phrases.person, size="sm", elem_id="person")
                clear = gr.Button(phrases.clear, size="sm", elem_id="clear")
        with gr.Column(scale=4, min_width=300):
            intent = gr.HTML(intent_card(None, phrases), elem_id="intent")
    exchanges = gr.State([], time_to_live=_STATE_LIVES_S)
    seen = gr.State(None, time_to_live=_STATE_LIVES_S)
    turn = gr.State(Turn())
    return ServiceLayout(
        absent, content, log, question, mode, person, clear, intent, exchanges, seen, turn
    )


def mode_choices(phrases: ServicePhrases) -> list[tuple[str, str]]:
    """Who answers, with the words for it."""
    return [(phrases.mode_approved, "approved"), (phrases.mode_model, "model")]
