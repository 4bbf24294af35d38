"""The shapes of a chart as SVG, in a square of 100 by 100 that the page stretches."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from apps.replies.monitor import Window

__all__ = ["PARTS", "Frame", "net_shapes", "net_y", "round_up", "volume_shapes"]

PARTS = ("negative", "neutral", "positive")
"""Sentiments, in the order in which they are stacked."""
_FEWEST = 24
"""Slots on the axis of time, so that the first windows are not as wide as the chart."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The span of time that a chart shows, in slots of one window."""

    start: datetime
    num_slots: int
    bucket: timedelta

    @classmethod
    def around(cls, windows: Sequence[Window], bucket: timedelta) -> Self:
        """The frame of windows, each ``bucket`` long, of which there is at least one."""
        first, last = windows[0].start, windows[-1].start
        num_slots = max(round((last - first) / bucket) + 1, _FEWEST)
        return cls(last - (num_slots - 1) * bucket, num_slots, bucket)

    @property
    def end(self) -> datetime:
        """The end of the last slot."""
        return self.start + self.num_slots * self.bucket

    def place(self, time: datetime) -> float:
        """Where a time lies, 0 to 1, at the nearest edge where it is outside."""
        share = (time - self.start) / (self.end - self.start)
        return min(max(share, 0.0), 1.0)


def net_shapes(windows: Sequence[Window], frame: Frame) -> str:
    """The line of net sentiment over its band, cut where windows hold nothing."""
    runs = _runs(windows, frame)
    return "".join(_band(run, frame) for run in runs) + "".join(_line(run, frame) for run in runs)


def volume_shapes(windows: Sequence[Window], frame: Frame, *, highest: int) -> str:
    """A bar for each window; one of ``highest`` items is as high as the chart."""
    return "".join(_bar(window, frame, highest) for window in windows)


def net_y(value: float) -> float:
    """Where a net sentiment lies, from 0 at the top to 100."""
    return 50.0 - 50.0 * min(max(value, -1.0), 1.0)


def round_up(count: int) -> int:
    """The next number that looks well at the top of an axis, at least 2."""
    magnitude = 1
    while True:
        for step in (1, 2, 4, 5, 8, 10):
            if step * magnitude >= count:
                return max(step * magnitude, 2)
        magnitude *= 10


def _runs(windows: Sequence[Window], frame: Frame) -> list[list[Window]]:
    """Windows with a net sentiment, cut where one or more are missing."""
    runs: list[list[Window]] = []
    for window in windows:
        if window.net_sentiment is None:
            continue
        if runs and window.start - runs[-1][-1].start <= frame.bucket:
            runs[-1].append(window)
        else:
            runs.append([window])
    return runs


def _line(run: Sequence[Window], frame: Frame) -> str:
    points = [(_middle(window, frame), net_y(window.net_sentiment or 0.0)) for window in run]
    path = "L".join(f"{x:.2f} {y:.2f}" for x, y in points)
    dots = "".join(f"M{x:.2f} {y:.2f}h0" for x, y in points)
    return f'<path class="line" d="M{path}"/><path class="dots" d="{dots}"/>'


def _band(run: Sequence[Window], frame: Frame) -> str:
    """The band around a run; around a single window it is as wide as the window."""
    edges = [window for window in run if window.low is not None and window.high is not None]
    if not edges:
        return ""
    half = 50.0 / frame.num_slots
    places = [(_middle(w, frame), w.low or 0.0, w.high or 0.0) for w in edges]
    if len(places) == 1:
        x, low, high = places[0]
        places = [(x - half, low, high), (x + half, low, high)]
    above = "L".join(f"{x:.2f} {net_y(high):.2f}" for x, _, high in places)
    below = "L".join(f"{x:.2f} {net_y(low):.2f}" for x, low, _ in reversed(places))
    return f'<path class="band" d="M{above}L{below}Z"/>'


def _bar(window: Window, frame: Frame, highest: int) -> str:
    """One bar, the negative items at its foot."""
    width = 100.0 / frame.num_slots
    left = 100.0 * frame.place(window.start) + width * 0.12
    foot, rects = 100.0, []
    counts = (window.negative, window.neutral, window.positive)
    for part, count in zip(PARTS, counts, strict=True):
        height = 100.0 * count / highest
        foot -= height
        rects.append(
            f'<rect class="{part}" x="{left:.2f}" y="{foot:.2f}" width="{width * 0.76:.2f}" '
            f'height="{height:.2f}"/>'
        )
    return "".join(rects)


def _middle(window: Window, frame: Frame) -> float:
    return 100.0 * frame.place(window.start + frame.bucket / 2)
