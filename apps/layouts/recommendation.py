"""Where everything stands on the recommendation page."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from apps.phrases import RecommendPhrases
from apps.views.actions import acting_html

__all__ = ["RecommendLayout", "lay_out_recommendation"]

_STATE_LIVES_S = 3600
_FIRST_DIVERSITY = 0.3


@dataclass(frozen=True, slots=True)
class RecommendLayout:
    """The components that events read and change."""

    absent: Any
    content: Any
    user: Any
    diversity: Any
    problem: Any
    title: Any
    ranking: Any
    facts: Any
    history: Any
    guest: Any
    """State: the id that a visitor who picks nobody has."""
    shown: Any
    """State: the id of the ranking on the page."""
    done: Any
    """State: what was done here, by user."""

    @property
    def ranked(self) -> list[Any]:
        """What changes with every ranking."""
        return [self.problem, self.ranking, self.facts, self.history, self.shown, self.done]

    @property
    def worded(self) -> list[Any]:
        """What is written in the page's language, or depends on what the service offers."""
        return [self.absent, self.content, self.user, self.diversity, self.title, self.guest]


def lay_out_recommendation(phrases: RecommendPhrases) -> RecommendLayout:
    """The components in place; to be called within the page's tab."""
    absent = gr.HTML(visible=False, elem_classes="missing")
    with gr.Column() as content:
        with gr.Row(elem_id="recommend-choices"):
            user = gr.Dropdown(
                [(phrases.somebody_new, "")], value=None, label=phrases.user, elem_id="user"
            )
            diversity = gr.Slider(
                0.0,
                1.0,
                value=_FIRST_DIVERSITY,
                step=0.05,
                label=phrases.diversity,
                info=phrases.diversity_hint,
                elem_id="diversity",
                buttons=[],
            )
        problem = gr.HTML("", elem_id="recommend-problem")
        with gr.Row(elem_id="recommend-main"):
            with gr.Column(scale=7, min_width=320):
                title = gr.HTML(elem_classes="side-title")
                ranking = acting_html("", "like", "hide", elem_id="ranking")
            with gr.Column(scale=4, min_width=300):
                facts = gr.HTML("", elem_id="facts")
                history = gr.HTML("", elem_id="history")
    guest, shown = gr.State(""), gr.State("")
    done = gr.State({}, time_to_live=_STATE_LIVES_S)
    return RecommendLayout(
        absent,
        content,
        user,
        diversity,
        problem,
        title,
        ranking,
        facts,
        history,
        guest,
        shown,
        done,
    )
