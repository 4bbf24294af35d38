"""A ranking as HTML: places with score, reasons and what popularity would say, and figures."""

from collections.abc import Sequence
from html import escape

from apps.phrases import RecommendPhrases
from apps.replies.recommend import PastEvent, Ranked, Ranking
from apps.views.fragments import action, meter, readable

__all__ = ["history_list", "ranking_facts", "ranking_list"]

_SHORTEST = 0.06
"""Of a score's bar: the last place has one too."""


def ranking_list(ranking: Ranking, phrases: RecommendPhrases) -> str:
    """The items, the best first."""
    if not ranking.items:
        return f'<p class="empty">{escape(phrases.nothing_ranked)}</p>'
    scores = [item.score for item in ranking.items]
    low, high = min(scores), max(scores)
    places = "".join(
        _place(item, (item.score - low) / (high - low) if high > low else 1.0, phrases)
        for item in ranking.items
    )
    return f'<ol class="ranking">{places}</ol>'


def _place(item: Ranked, share: float, phrases: RecommendPhrases) -> str:
    category = f'<span class="category">{escape(_category(item))}</span>' if item.category else ""
    reasons = "".join(
        f'<li class="{escape(reason.kind)}">{escape(reason.text)}</li>' for reason in item.reasons
    )
    return (
        f'<li class="place"><span class="rank">{item.rank}</span><div class="what">'
        f'<div class="name"><b>{escape(item.title or item.id)}</b>{category}</div>'
        f'<div class="score" title="{escape(phrases.score)} {item.score:.4g}">'
        f"{meter(_SHORTEST + (1.0 - _SHORTEST) * share)}<span>{item.score:.3g}</span>"
        f"{_against_popularity(item, phrases)}</div>"
        f'<ul class="reasons">{reasons}</ul></div>'
        f'<div class="acts">{_act("like", item, phrases.like)}{_act("hide", item, phrases.hide)}'
        "</div></li>"
    )


def _category(item: Ranked) -> str:
    return ", ".join(readable(part) for part in (item.category or "").split("|"))


def _against_popularity(item: Ranked, phrases: RecommendPhrases) -> str:
    """How many places higher or lower than by popularity alone."""
    if item.rank_by_popularity is None:
        return ""
    moved = item.rank_by_popularity - item.rank
    if moved == 0:
        return f'<span class="moved same">= {escape(phrases.popularity_same)}</span>'
    words = phrases.popularity_up if moved > 0 else phrases.popularity_down
    css, sign = ("up", "\u25b2") if moved > 0 else ("down", "\u25bc")
    return f'<span class="moved {css}">{sign} {escape(words.format(places=abs(moved)))}</span>'


def _act(name: str, item: Ranked, label: str) -> str:
    data = {"item": item.id, "title": item.title or item.id, "position": item.rank - 1}
    words = f"{label}: {item.title or item.id}"
    return action(name, escape(label), data=data, css=f"chip {name}", more={"aria-label": words})


def ranking_facts(ranking: Ranking, phrases: RecommendPhrases) -> str:
    """How varied the list is, what ranked it, and whether the user is unknown."""
    cold = ""
    if ranking.cold_start:
        cold = (
            f'<div class="cold"><b>{escape(phrases.cold_start)}</b>'
            f"<span>{escape(phrases.cold_start_hint)}</span></div>"
        )
    ranker = f'<p class="ranker">{escape(phrases.ranker.format(name=readable(ranking.ranker)))}</p>'
    title = f"<h2>{escape(phrases.facts)}</h2>"
    return f"{title}{cold}{_variety(ranking, phrases)}{ranker if ranking.ranker else ''}"


def _variety(ranking: Ranking, phrases: RecommendPhrases) -> str:
    now, before = ranking.intra_list_diversity, ranking.baseline_diversity
    rows = [(phrases.variety, now, "now"), (phrases.variety_before, before, "before")]
    return "".join(
        f'<div class="variety {css}"><div class="names"><span>{escape(name)}</span>'
        f"<span>{value:.2f}</span></div>{meter(value)}</div>"
        for name, value, css in rows
        if value is not None
    )


def history_list(events: Sequence[PastEvent], phrases: RecommendPhrases, *, is_whole: bool) -> str:
    """What the user did, the latest first; ``is_whole`` says whether that is all there is."""
    title = f"<h2>{escape(phrases.history)}</h2>"
    rows = "".join(
        f'<li><span class="event {escape(event.kind)}">'
        f"{escape(phrases.event_kinds.get(event.kind, readable(event.kind)))}</span>"
        f"<span>{escape(event.title or event.item)}</span></li>"
        for event in events
    )
    missing = "" if is_whole else f'<p class="empty">{escape(phrases.history_unknown)}</p>'
    if not rows:
        return (
            f'{title}<p class="empty">{escape(phrases.history_empty)}</p>'
            if is_whole
            else title + missing
        )
    return f'{title}<ul class="history">{rows}</ul>{missing}'
