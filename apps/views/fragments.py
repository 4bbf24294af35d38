"""The pieces of HTML that every page uses."""

from collections.abc import Mapping
from html import escape

from apps.client import ServiceError
from apps.phrases import ShellPhrases
from apps.watch import Offer

__all__ = [
    "action",
    "attributes",
    "banner",
    "explain",
    "header",
    "meter",
    "notice",
    "readable",
    "status_pill",
]


def header(title: str, description: str) -> str:
    """The name of the open page and what it is."""
    return (
        '<div class="bar"><div class="mark" aria-hidden="true">AI</div><div class="names">'
        f"<h1>{escape(title)}</h1><p>{escape(description)}</p></div></div>"
    )


def status_pill(offer: Offer | None, phrases: ShellPhrases) -> str:
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


def banner(offer: Offer, phrases: ShellPhrases) -> str:
    """Why nothing can be asked, in full; empty where something can."""
    if offer.problem is None:
        return ""
    kind = _kind(offer)
    title = phrases.away_banner if kind == "away" else phrases.refuses_banner
    return notice(title, explain(offer.problem, phrases), kind=kind)


def notice(title: str, text: str, *, kind: str) -> str:
    """A box that says something important; ``kind`` is its class: away, refuses, absent."""
    role = "note" if kind == "absent" else "alert"
    sign = "i" if kind == "absent" else "!"
    return (
        f'<div class="note {kind}" role="{role}"><div class="sign" aria-hidden="true">{sign}</div>'
        f"<div><b>{escape(title)}</b><span>{escape(text)}</span></div></div>"
    )


def explain(problem: ServiceError, phrases: ShellPhrases) -> str:
    """What the service said, and when to come again if it told."""
    if problem.retry_after_s is None:
        return str(problem)
    return f"{problem} {phrases.retry_after.format(seconds=f'{problem.retry_after_s:g}')}"


def readable(label: str) -> str:
    """A label as words: ``delivery_cost`` is ``delivery cost``."""
    return label.replace("_", " ").strip() or label


def meter(share: float) -> str:
    """A bar that is filled to ``share``, 0 to 1."""
    width = min(max(share, 0.0), 1.0)
    return f'<div class="track"><div class="fill" style="width:{width:.1%}"></div></div>'


def action(
    name: str,
    content: str,
    *,
    data: Mapping[str, object] | None = None,
    css: str = "",
    more: Mapping[str, object] | None = None,
) -> str:
    """A button whose click is the event ``name``; ``content`` is HTML.

    Args:
        name: the event, see `apps.views.actions`.
        content: what is on the button, already escaped.
        data: what the event tells.
        css: classes.
        more: other attributes.
    """
    told = {f"data-{key}": value for key, value in (data or {}).items()}
    every = {"type": "button", "class": css, "data-act": name, **told, **(more or {})}
    return f"<button {attributes(every)}>{content}</button>"


def attributes(values: Mapping[str, object]) -> str:
    """Attributes of a tag; empty ones are left out."""
    return " ".join(
        f'{name}="{escape(str(value))}"' for name, value in values.items() if value != ""
    )


def _kind(offer: Offer | None) -> str:
    if offer is None:
        return "checking"
    if offer.problem is None:
        return "ready"
    return "away" if offer.problem.is_away else "refuses"
