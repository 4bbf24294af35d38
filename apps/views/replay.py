"""What a replay will play, and how far it is, as HTML."""

from collections import Counter
from datetime import timedelta
from html import escape

from apps.item_files import ReadItems
from apps.phrases import MonitorPhrases
from apps.replay import Progress
from apps.views.fragments import meter, readable
from apps.views.moments import moment, span

__all__ = ["found_items", "progress_line"]

_NUM_TOPICS = 8


def found_items(read: ReadItems | None, phrases: MonitorPhrases) -> str:
    """How many items there are, of when and about what; and what was left out."""
    if read is None:
        return ""
    if not read.items:
        return f'<p class="failed">{escape(phrases.nothing_found)}</p>{_left_out(read, phrases)}'
    when = span(read.items[0].time, read.items[-1].time + timedelta(seconds=1), phrases)
    topics = Counter(topic for item in read.items for topic in item.topics)
    named = ", ".join(readable(topic) for topic, _ in topics.most_common(_NUM_TOPICS))
    text = phrases.found.format(count=len(read.items), span=when)
    about = f"<br>{escape(named)}" if named else ""
    return f"<p>{escape(text)}{about}</p>{_left_out(read, phrases)}"


def _left_out(read: ReadItems, phrases: MonitorPhrases) -> str:
    if not read.num_left_out:
        return ""
    text = phrases.left_out.format(count=read.num_left_out, why=" ".join(read.problems))
    return f'<p class="failed">{escape(text)}</p>'


def progress_line(progress: Progress | None, phrases: MonitorPhrases, *, note: str = "") -> str:
    """A bar with the figures; ``note`` says how it ended."""
    said = f'<p class="note-line" role="status">{escape(note)}</p>' if note else ""
    if progress is None:
        return said
    at = moment(progress.at, phrases) if progress.at else ""
    text = phrases.progress.format(
        sent=progress.sent,
        count=progress.num_items,
        accepted=progress.accepted,
        duplicates=progress.duplicates,
        rejected=progress.rejected,
    )
    why = f'<p class="failed">{escape(progress.reason)}</p>' if progress.reason else ""
    return (
        f'<div class="progress">{meter(progress.sent / progress.num_items)}'
        f'<div class="counts"><span>{escape(text)}</span><span>{escape(at)}</span></div>'
        f"{said}{why}</div>"
    )
