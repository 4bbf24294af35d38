"""The pieces of HTML that the page writes itself; every word from outside is escaped."""

from html import escape

from apps.client import ServiceError
from apps.phrases import Phrases
from apps.replies import Classification, LabelScore
from apps.watch import Offer

__all__ = ["banner", "explain", "greeting", "header", "intent_card", "readable", "status_pill"]

_SURE_FROM = 0.5
"""Below this probability the page says that the model is not sure."""


def header(phrases: Phrases) -> str:
    """The page's title, and that an AI answers."""
    return (
        '<div class="bar"><div class="mark" aria-hidden="true">AI</div><div class="names">'
        f"<h1>{escape(phrases.title)}</h1><p>{escape(phrases.disclosure)}</p></div></div>"
    )


def greeting(phrases: Phrases) -> str:
    """What stands in an empty conversation."""
    return (
        f'<div class="greeting"><b>{escape(phrases.welcome)}</b>'
        f"<span>{escape(phrases.welcome_hint)}</span></div>"
    )


def status_pill(offer: Offer | None, phrases: Phrases) -> str:
    """A dot and a word on the service; ``offer`` is None before the first look."""
    kind = _kind(offer)
    words = {
        "checking": phrases.checking,
        "ready": phrases.ready,
        "away": phrases.away,
        "refuses": phrases.refuses,
    }
    return (
        f'<div class="pill {kind}" role="status"><span class="dot"></span>'
        f"{escape(words[kind])}</div>"
    )


def banner(offer: Offer, phrases: Phrases) -> str:
    """Why no question can be answered, in full; empty where one can."""
    if offer.problem is None:
        return ""
    kind = _kind(offer)
    title = phrases.away_banner if kind == "away" else phrases.refuses_banner
    return (
        f'<div class="note {kind}" role="alert"><div class="sign" aria-hidden="true">!</div>'
        f"<div><b>{escape(title)}</b><span>{escape(explain(offer.problem, phrases))}</span>"
        "</div></div>"
    )


def explain(problem: ServiceError, phrases: Phrases) -> str:
    """What the service said, and when to come again if it told."""
    if problem.retry_after_s is None:
        return str(problem)
    return f"{problem} {phrases.retry_after.format(seconds=f'{problem.retry_after_s:g}')}"


def intent_card(
    classification: Classification | None, phrases: Phrases, *, is_served: bool = True
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
        f"{_bar(score)}{unsure}{heading}{others}</div>"
    )


def readable(label: str) -> str:
    """A label as words: ``delivery_cost`` is ``delivery cost``."""
    return label.replace("_", " ").strip() or label


def _other(item: LabelScore) -> str:
    return (
        f'<div class="other"><div class="names"><span>{escape(readable(item.label))}</span>'
        f"<span>{item.score:.1%}</span></div>{_bar(item.score)}</div>"
    )


def _bar(score: float) -> str:
    width = min(max(score, 0.0), 1.0)
    return f'<div class="track"><div class="fill" style="width:{width:.1%}"></div></div>'


def _kind(offer: Offer | None) -> str:
    if offer is None:
        return "checking"
    if offer.problem is None:
        return "ready"
    return "away" if offer.problem.is_away else "refuses"
