"""Topics, figures, items and alerts of the opinion monitor as HTML."""

from collections import Counter
from collections.abc import Sequence
from html import escape

from apps.desk import Desk, Span
from apps.phrases import MonitorPhrases
from apps.replies.monitor import Alert, Item, Topic
from apps.views.fragments import action, readable
from apps.views.moments import moment, span

__all__ = ["alert_list", "figures", "item_list", "items_heading", "topic_list"]

_PARTS = ("negative", "neutral", "positive")


def topic_list(
    topics: Sequence[Topic], alerts: Sequence[Alert], phrases: MonitorPhrases, *, chosen: str
) -> str:
    """The topics to pick from, each with how many items and how many open alerts it has."""
    num_open = Counter(alert.topic for alert in alerts if not alert.acknowledged)
    buttons = "".join(
        action(
            "topic",
            f'<span class="name">{escape(readable(topic.topic))}</span>'
            f'<span class="count">{topic.num_items}</span>{_badge(num_open[topic.topic], phrases)}',
            data={"topic": topic.topic},
            css="topic",
            more={"aria-pressed": "true" if topic.topic == chosen else "false"},
        )
        for topic in topics
    )
    return f'<div class="topics" role="group" aria-label="{escape(phrases.topics)}">{buttons}</div>'


def _badge(num_open: int, phrases: MonitorPhrases) -> str:
    if not num_open:
        return ""
    title = f"{phrases.open_alerts}: {num_open}"
    return f'<span class="badge" title="{escape(title)}">{num_open}</span>'


def figures(topic: Topic, alerts: Sequence[Alert], phrases: MonitorPhrases) -> str:
    """The figures of one topic at a glance; ``alerts`` are its own."""
    num_open = sum(not alert.acknowledged for alert in alerts)
    net = topic.net_sentiment
    tone = "neutral" if net is None or abs(net) < 0.05 else "negative" if net < 0 else "positive"
    last = moment(topic.last_time, phrases) if topic.last_time else "-"
    cells = [
        (phrases.items, f"{topic.num_items}", ""),
        (phrases.net_sentiment, "-" if net is None else f"{net:+.2f}", tone),
        (phrases.open_alerts, f"{num_open}", "open" if num_open else ""),
        (phrases.last_item, last, ""),
    ]
    shown = "".join(
        f'<div class="figure {css}"><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>'
        for name, value, css in cells
    )
    return f'<dl class="figures">{shown}</dl>'


def items_heading(desk: Desk, phrases: MonitorPhrases) -> str:
    """Which items follow, and the way back to the latest ones."""
    if desk.span is None:
        title = phrases.items_latest.format(topic=readable(desk.topic))
        return f"<h2>{escape(title)}</h2>"
    when = _when(desk.span, phrases)
    title = phrases.items_between.format(topic=readable(desk.topic), span=when)
    return f"<h2>{escape(title)}</h2>{action('back', escape(phrases.back), css='link')}"


def item_list(items: Sequence[Item], phrases: MonitorPhrases) -> str:
    """Items with what the model reads in them."""
    if not items:
        return f'<p class="empty">{escape(phrases.no_items)}</p>'
    return f'<ul class="items">{"".join(_item(item, phrases) for item in items)}</ul>'


def _item(item: Item, phrases: MonitorPhrases) -> str:
    label = max(item.sentiment, key=lambda name: item.sentiment[name], default="")
    word = phrases.sentiments.get(label, readable(label)) if label else ""
    polarity = item.polarity or label
    tone = polarity if polarity in _PARTS else "neutral"
    strongest = f"{word} {item.sentiment[label]:.0%}" if label else ""
    source = f"<span>{escape(item.source)}</span>" if item.source else ""
    topics = "".join(f"<span>{escape(readable(topic))}</span>" for topic in item.topics)
    return (
        f'<li class="item"><div class="meta"><time>{escape(moment(item.time, phrases))}</time>'
        f"{source}{topics}</div><p>{escape(item.text)}</p>"
        f'<div class="feeling {tone}"><span class="label">{escape(strongest)}</span>'
        f"{_shares(item, phrases)}</div></li>"
    )


def _shares(item: Item, phrases: MonitorPhrases) -> str:
    """The probabilities of the sentiments as one bar."""
    parts = [part for part in _PARTS if part in item.sentiment]
    title = ", ".join(f"{phrases.sentiments[part]} {item.sentiment[part]:.0%}" for part in parts)
    bars = "".join(
        f'<i class="{part}" style="width:{min(max(item.sentiment[part], 0.0), 1.0):.1%}"></i>'
        for part in parts
    )
    return f'<span class="shares" title="{escape(title)}">{bars}</span>'


def alert_list(alerts: Sequence[Alert], phrases: MonitorPhrases) -> str:
    """The alerts of every topic: those that nobody has seen first, then the latest."""
    if not alerts:
        return f'<p class="empty">{escape(phrases.no_alerts)}</p>'
    latest = sorted(alerts, key=lambda alert: alert.start, reverse=True)
    ordered = sorted(latest, key=lambda alert: alert.acknowledged)
    return f'<ul class="alerts">{"".join(_alert(alert, phrases) for alert in ordered)}</ul>'


def _alert(alert: Alert, phrases: MonitorPhrases) -> str:
    kind = phrases.alert_kinds.get(alert.kind, readable(alert.kind))
    severity = phrases.severities.get(alert.severity, readable(alert.severity))
    when = _when(Span(alert.start, alert.end), phrases)
    state = "known" if alert.acknowledged else "open"
    body = (
        f'<span class="head"><b>{escape(readable(alert.topic))}</b>'
        f'<span class="severity {escape(alert.severity)}">{escape(severity)}</span></span>'
        f'<span class="what">{escape(kind)}</span><span class="when">{escape(when)}</span>'
        f'<span class="why">{escape(_why(alert, phrases))}</span>'
    )
    shown = action("alert", body, data={"id": alert.id}, css="show")
    if alert.acknowledged:
        done = f'<span class="done">{escape(phrases.acknowledged)}</span>'
    else:
        done = action("acknowledge", escape(phrases.acknowledge), data={"id": alert.id}, css="chip")
    return f'<li class="alert {state}">{shown}{done}</li>'


def _when(looked_at: Span, phrases: MonitorPhrases) -> str:
    if looked_at.end is None:
        return phrases.since.format(time=moment(looked_at.start, phrases))
    return span(looked_at.start, looked_at.end, phrases)


def _why(alert: Alert, phrases: MonitorPhrases) -> str:
    counted = phrases.alert_count.format(negative=alert.negative, count=alert.count)
    if alert.share is None or alert.expected_share is None:
        return counted
    shares = phrases.alert_share.format(
        share=f"{alert.share:.0%}", expected=f"{alert.expected_share:.0%}"
    )
    return f"{counted} {shares}"
