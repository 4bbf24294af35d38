"""Opinion over time as HTML and SVG: net sentiment with its band, volume, alerts.

Drawn here and not by a plotting library, so that it has the page's fonts and colours, adapts to
any width without a redraw, can be walked by keyboard, and asks the browser for nothing. Shapes
live in a square that is stretched; texts and marks are placed beside them in per cent.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from html import escape

from apps.desk import Span
from apps.phrases import MonitorPhrases
from apps.replies.monitor import Alert, Window, Windows
from apps.views.fragments import action, attributes
from apps.views.moments import span, ticks
from apps.views.shapes import PARTS, Frame, net_shapes, net_y, round_up, volume_shapes

__all__ = ["opinion_chart"]

_NET_TICKS = (1.0, 0.5, 0.0, -0.5, -1.0)


def opinion_chart(
    windows: Windows,
    alerts: Sequence[Alert],
    phrases: MonitorPhrases,
    *,
    selected: Span | None = None,
) -> str:
    """The chart of one topic.

    Args:
        windows: the windows in order of time; those before the first item are left out.
        alerts: the alerts of the topic.
        phrases: the page's words.
        selected: the span that is looked at more closely.
    """
    seen = [window for window in windows.windows if window.count]
    if not seen:
        return f'<p class="empty">{escape(phrases.nothing_yet)}</p>'
    frame = Frame.around(seen, timedelta(seconds=windows.bucket_s))
    highest = round_up(max(window.count for window in seen))
    return (
        f'<figure class="chart">{_legend(phrases)}<div class="plots" data-walk role="group" '
        f'aria-label="{escape(phrases.net_sentiment)}">'
        f"{_net_plot(seen, frame, phrases)}{_volume_plot(seen, frame, highest, phrases)}"
        f'<div class="over">{_selection(selected, frame)}'
        f"{_columns(seen, frame, phrases)}{_marks(alerts, frame, phrases)}</div></div>"
        f"{_time_axis(frame, phrases)}</figure>"
    )


def _legend(phrases: MonitorPhrases) -> str:
    parts = [
        ("line", phrases.net_sentiment),
        ("band", phrases.band),
        *((part, phrases.sentiments[part]) for part in PARTS),
        ("flag", phrases.alert),
    ]
    keys = "".join(f'<span><i class="key-{css}"></i>{escape(text)}</span>' for css, text in parts)
    return f'<figcaption class="legend">{keys}</figcaption>'


def _net_plot(windows: Sequence[Window], frame: Frame, phrases: MonitorPhrases) -> str:
    grid = "".join(f'<path class="grid" d="M0 {net_y(value):g}H100"/>' for value in _NET_TICKS)
    zero = f'<path class="zero" d="M0 {net_y(0):g}H100"/>'
    labels = [(net_y(value) / 100, f"{value:+g}" if value else "0") for value in _NET_TICKS]
    return _plot("net", grid + zero + net_shapes(windows, frame), labels, phrases.net_axis)


def _volume_plot(
    windows: Sequence[Window], frame: Frame, highest: int, phrases: MonitorPhrases
) -> str:
    bars = volume_shapes(windows, frame, highest=highest)
    grid = '<path class="grid" d="M0 0H100M0 50H100"/><path class="zero" d="M0 100H100"/>'
    labels = [(0.0, f"{highest}"), (1.0, "0")]
    return _plot("volume", grid + bars, labels, phrases.volume_axis)


def _plot(css: str, shapes: str, labels: Sequence[tuple[float, str]], title: str) -> str:
    ticks_ = "".join(
        f'<span class="tick" style="top:{place:.1%}">{escape(text)}</span>'
        for place, text in labels
    )
    return (
        f'<div class="plot {css}"><span class="title">{escape(title)}</span>{ticks_}'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{shapes}</svg>'
        "</div>"
    )


def _columns(windows: Sequence[Window], frame: Frame, phrases: MonitorPhrases) -> str:
    """What is pointed at and pressed: a column for each window with items."""
    return "".join(
        _column(window, frame, phrases, is_first=number == 0)
        for number, window in enumerate(windows)
    )


def _column(window: Window, frame: Frame, phrases: MonitorPhrases, *, is_first: bool) -> str:
    end = window.start + frame.bucket
    left = frame.place(window.start)
    text = _describe(window, end, phrases)
    return action(
        "window",
        "",
        data={"start": window.start.isoformat(), "end": end.isoformat(), "text": text},
        css="column" + (" late" if left > 0.5 else ""),
        more={
            "style": f"left:{left:.3%};width:{1 / frame.num_slots:.3%}",
            "tabindex": "0" if is_first else "-1",
            "aria-label": text.replace("\n", ", "),
        },
    )


def _describe(window: Window, end: datetime, phrases: MonitorPhrases) -> str:
    lines = [span(window.start, end, phrases), phrases.num_items.format(count=window.count)]
    if window.net_sentiment is not None:
        net = f"{phrases.net_sentiment} {window.net_sentiment:+.2f}"
        if window.low is not None and window.high is not None:
            net += f" ({window.low:+.2f} ... {window.high:+.2f})"
        lines.append(net)
    counts = [f"{phrases.sentiments[part]} {getattr(window, part):g}" for part in PARTS]
    return "\n".join([*lines, ", ".join(counts)])


def _marks(alerts: Sequence[Alert], frame: Frame, phrases: MonitorPhrases) -> str:
    shown = (alert for alert in alerts if _end(alert, frame) > frame.start)
    return "".join(_mark(alert, frame, phrases) for alert in shown)


def _mark(alert: Alert, frame: Frame, phrases: MonitorPhrases) -> str:
    left, right = frame.place(alert.start), frame.place(_end(alert, frame))
    when = span(alert.start, _end(alert, frame), phrases)
    label = f"{phrases.alert}: {phrases.alert_kinds.get(alert.kind, alert.kind)}, {when}"
    state = "known" if alert.acknowledged else "open"
    shade = {"class": f"shade {state}", "style": f"left:{left:.3%};width:{right - left:.3%}"}
    flag = action(
        "alert",
        "<i></i>",
        data={"id": alert.id},
        css=f"flag {state}",
        more={
            "style": f"left:{(left + right) / 2:.3%}",
            "title": label,
            "aria-label": label,
        },
    )
    return f"<div {attributes(shade)}></div>{flag}"


def _end(alert: Alert, frame: Frame) -> datetime:
    """The end of an alert; one that goes on reaches to the end of the chart."""
    return max(alert.end or frame.end, alert.start + frame.bucket)


def _selection(selected: Span | None, frame: Frame) -> str:
    if selected is None:
        return ""
    left, right = frame.place(selected.start), frame.place(selected.end or frame.end)
    if left >= right:
        return ""
    return f'<div class="selected" style="left:{left:.3%};width:{right - left:.3%}"></div>'


def _time_axis(frame: Frame, phrases: MonitorPhrases) -> str:
    marks = "".join(
        f'<span class="{"odd" if number % 2 else "even"}" style="left:{frame.place(time):.2%}">'
        f"{escape(text)}</span>"
        for number, (time, text) in enumerate(ticks(frame.start, frame.end, phrases))
    )
    title = f'<span class="title">{escape(phrases.time_axis)}</span>'
    return f'<div class="time"><div class="marks">{marks}</div>{title}</div>'
