"""Times as people read them, in UTC and in the words of a language."""

from datetime import UTC, datetime, timedelta

from apps.phrases import MonitorPhrases

__all__ = ["day", "moment", "span", "tick_step", "ticks"]

_DAY_S = 86_400
_STEPS_S = (60, 300, 900, 3600, 10_800, 21_600, 43_200)
"""Distances of tick marks below a day; above it they are whole days."""


def day(time: datetime, phrases: MonitorPhrases) -> str:
    """A date without its year, such as ``3 Mar``."""
    time = time.astimezone(UTC)
    return phrases.date.format(day=time.day, month=phrases.months[time.month - 1])


def moment(time: datetime, phrases: MonitorPhrases) -> str:
    """A date with its time."""
    return f"{day(time, phrases)} {time.astimezone(UTC):%H:%M}"


def span(start: datetime, end: datetime, phrases: MonitorPhrases) -> str:
    """From ``start`` to before ``end``, no longer than needed."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    if _is_midnight(start) and _is_midnight(end):
        last = end - timedelta(days=1)
        first = day(start, phrases)
        return first if last <= start else f"{first} - {day(last, phrases)}"
    if start.date() == (end - timedelta(seconds=1)).date():
        return f"{moment(start, phrases)} - {end:%H:%M}"
    return f"{moment(start, phrases)} - {moment(end, phrases)}"


def tick_step(seconds: float, *, num_ticks: int) -> int:
    """The distance of tick marks, in seconds, that puts at most ``num_ticks`` on a span."""
    for step in _STEPS_S:
        if seconds / step <= num_ticks:
            return step
    num_days = 1
    while seconds / (num_days * _DAY_S) > num_ticks:
        num_days += 1 if num_days < 7 else 7
    return num_days * _DAY_S


def ticks(start: datetime, end: datetime, phrases: MonitorPhrases) -> list[tuple[datetime, str]]:
    """Tick marks between two times with what is written at them."""
    step = tick_step((end - start).total_seconds(), num_ticks=8)
    first = -(-start.timestamp() // step) * step
    marks = []
    while first < end.timestamp():
        time = datetime.fromtimestamp(first, UTC)
        is_date = step >= _DAY_S or _is_midnight(time)
        marks.append((time, day(time, phrases) if is_date else f"{time:%H:%M}"))
        first += step
    return marks


def _is_midnight(time: datetime) -> bool:
    return time.timestamp() % _DAY_S == 0
