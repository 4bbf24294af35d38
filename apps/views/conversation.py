"""A conversation as HTML: questions, answers with their sources, and what one can do next."""

from collections.abc import Sequence
from html import escape

from apps.conversation import Exchange
from apps.phrases import ServicePhrases
from apps.replies.assistant import Answer
from apps.views.citations import referring_text, source_list
from apps.views.fragments import action

__all__ = ["conversation_log"]

_THUMB = (
    '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 21V10l4.2-7.4c1.5.1 2.4 1.3 2 2.8L'
    '12.4 9H19a2 2 0 0 1 2 2.4l-1.5 7.8A2.3 2.3 0 0 1 17.3 21H7Zm0-11H3v11h4"/></svg>'
)


def conversation_log(
    exchanges: Sequence[Exchange],
    phrases: ServicePhrases,
    *,
    is_busy: bool = False,
    can_write: bool = False,
) -> str:
    """The whole conversation.

    Args:
        exchanges: what was said.
        phrases: the page's words.
        is_busy: whether the last answer is still to come, or to go on.
        can_write: whether a chat model could answer where the assistant does not know.
    """
    if not exchanges:
        return f'<div class="log" role="log">{_greeting(phrases)}</div>'
    last = len(exchanges) - 1
    turns = "".join(
        _turn(exchange, index, phrases, is_open=is_busy and index == last)
        + (_next(exchange, index, phrases, can_write) if index == last and not is_busy else "")
        for index, exchange in enumerate(exchanges)
    )
    busy = "true" if is_busy else "false"
    return f'<div class="log" role="log" aria-live="polite" aria-busy="{busy}">{turns}</div>'


def _greeting(phrases: ServicePhrases) -> str:
    examples = "".join(_chip(question) for question in phrases.example_questions)
    return (
        f'<div class="greeting"><b>{escape(phrases.welcome)}</b>'
        f"<span>{escape(phrases.welcome_hint)}</span>"
        f'<div class="chips">{examples}</div></div>'
    )


def _turn(exchange: Exchange, index: int, phrases: ServicePhrases, *, is_open: bool) -> str:
    question = f'<div class="turn asked"><p>{escape(exchange.question)}</p></div>'
    parts = [
        _answer(exchange, index, phrases),
        _note(exchange.note),
        _problem(exchange.problem, phrases),
        _typing(phrases) if is_open and not exchange.answer else "",
    ]
    shown = "".join(parts)
    return question + (f'<div class="turn answered">{shown}</div>' if shown else "")


def _answer(exchange: Exchange, index: int, phrases: ServicePhrases) -> str:
    reply = exchange.reply
    if reply is None:
        if not exchange.answer:
            return ""
        return _kind("written", phrases.written) + _text(escape(exchange.answer))
    prefix = f"source-{index}"
    return "".join(
        [
            _kind(reply.kind, _kind_label(reply, phrases)),
            _text(referring_text(exchange.answer, reply.citations, prefix=prefix)),
            source_list(reply.citations, exchange.documents, phrases, prefix=prefix, index=index),
            _rating(exchange, index, phrases),
        ]
    )


def _kind_label(reply: Answer, phrases: ServicePhrases) -> str:
    if reply.kind == "unknown":
        return phrases.unknown
    title = phrases.approved if reply.kind == "approved" else phrases.passages
    return f"{title} · {phrases.confidence.format(score=f'{reply.confidence:.0%}')}"


def _kind(name: str, label: str) -> str:
    return f'<div class="kind {name}"><span class="dot"></span>{escape(label)}</div>'


def _text(content: str) -> str:
    return f'<p class="text">{content}</p>' if content else ""


def _note(note: str) -> str:
    return f'<p class="remark">{escape(note)}</p>' if note else ""


def _problem(problem: str, phrases: ServicePhrases) -> str:
    if not problem:
        return ""
    return f'<p class="failed">{escape(phrases.no_answer)} {escape(problem)}</p>'


def _typing(phrases: ServicePhrases) -> str:
    return (
        f'<div class="typing" role="status" aria-label="{escape(phrases.waiting)}">'
        "<i></i><i></i><i></i></div>"
    )


def _rating(exchange: Exchange, index: int, phrases: ServicePhrases) -> str:
    """Whether it helped, and why not."""
    thumbs = "".join(
        action(
            "rate",
            _THUMB,
            data={"index": index, "verdict": verdict},
            css=f"thumb {verdict}",
            more={
                "aria-label": label,
                "title": label,
                "aria-pressed": "true" if exchange.verdict == verdict else "false",
            },
        )
        for verdict, label in (("up", phrases.up), ("down", phrases.down))
    )
    words = phrases.helpful
    if exchange.verdict == "up" or exchange.reason:
        words = phrases.thanks
    elif exchange.verdict == "down":
        words = phrases.why
    row = f'<div class="rating"><span role="status">{escape(words)}</span>{thumbs}</div>'
    return row + _reasons(exchange, index, phrases) + _failed(exchange.remark)


def _reasons(exchange: Exchange, index: int, phrases: ServicePhrases) -> str:
    if exchange.verdict != "down" or exchange.reason:
        return ""
    chips = "".join(
        action(
            "rate",
            escape(label),
            data={"index": index, "verdict": "down", "reason": reason},
            css="chip",
        )
        for reason, label in phrases.reasons.items()
    )
    return f'<div class="chips">{chips}</div>'


def _failed(remark: str) -> str:
    return f'<p class="failed">{escape(remark)}</p>' if remark else ""


def _next(exchange: Exchange, index: int, phrases: ServicePhrases, can_write: bool) -> str:
    """What to ask or to do after the last answer."""
    reply = exchange.reply
    if reply is None:
        return ""
    steps = ""
    if reply.kind == "unknown":
        write = action("write", escape(phrases.ask_model), data={"index": index}, css="chip")
        person = action("person", escape(phrases.person), css="chip strong")
        steps = _row(phrases.next_steps, person + (write if can_write else ""), phrases.rephrase)
    chips = "".join(_chip(question) for question in reply.suggestions)
    return steps + (_row(phrases.suggestions, chips) if chips else "")


def _row(title: str, chips: str, hint: str = "") -> str:
    shown = f"<span>{escape(hint)}</span>" if hint else ""
    return (
        f'<div class="next"><h4>{escape(title)}</h4>{shown}<div class="chips">{chips}</div></div>'
    )


def _chip(question: str) -> str:
    return action("ask", escape(question), data={"text": question}, css="chip")
