"""The card that says what a question is about, and how sure that is."""

from html import escape

from apps.phrases import ServicePhrases
from apps.replies.texts import Classification, LabelScore
from apps.views.fragments import meter, readable

__all__ = ["intent_card"]

_SURE_FROM = 0.5
"""Below this probability the page says that the model is not sure."""


def intent_card(
    classification: Classification | None, phrases: ServicePhrases, *, is_served: bool = True
) -> str:
    """The recognised topic with its probability and the runners-up as bars."""
    title = f"<h2>{escape(phrases.intent)}</h2>"
    if classification is None:
        text = phrases.intent_empty if is_served else phrases.intent_absent
        return f'<div class="card">{title}<p class="empty">{escape(text)}</p></div>'
    score = classification.score
    unsure = f'<p class="unsure">{escape(phrases.unsure)}</p>' if score < _SURE_FROM else ""
    others = "".join(
        _other(item) for item in classification.scores if item.label != classification.label
    )
    heading = f"<h3>{escape(phrases.others)}</h3>" if others else ""
    return (
        f'<div class="card">{title}<div class="top">'
        f'<span class="label">{escape(readable(classification.label))}</span>'
        f'<span class="score" title="{escape(phrases.sure)}">{score:.0%}</span></div>'
        f"{meter(score)}{unsure}{heading}{others}</div>"
    )


def _other(item: LabelScore) -> str:
    return (
        f'<div class="other"><div class="names"><span>{escape(readable(item.label))}</span>'
        f"<span>{item.score:.1%}</span></div>{meter(item.score)}</div>"
    )
