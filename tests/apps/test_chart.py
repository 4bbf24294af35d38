"""The chart as text: what is drawn, and where."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from apps.desk import Span
from apps.phrases import load_phrases
from apps.replies.monitor import Alert, Window, Windows
from apps.views.chart import opinion_chart
from apps.views.shapes import Frame, round_up, volume_shapes

DAY = timedelta(days=1)
START = datetime(2025, 3, 3, tzinfo=UTC)
WORDS = {code: words.opinion_monitor for code, words in load_phrases().items()}


def window(day, *, negative=1, neutral=1, positive=2):
    count = negative + neutral + positive
    net = (positive - negative) / count if count else None
    return Window(
        start=START + day * DAY,
        count=count,
        negative=negative,
        neutral=neutral,
        positive=positive,
        net_sentiment=net,
        low=None if net is None else net - 0.1,
        high=None if net is None else net + 0.1,
    )


def empty(day):
    return window(day, negative=0, neutral=0, positive=0)


def chart(windows, alerts=(), language="en", **options):
    told = Windows(topic="chips", bucket_s=86_400, windows=windows)
    return opinion_chart(told, alerts, WORDS[language], **options)


def alert(first, last, **changes):
    values = {
        "id": "a<1>",
        "topic": "chips",
        "start": START + first * DAY,
        "end": None if last is None else START + last * DAY,
        "kind": "<i>odd</i>",
    }
    return Alert(**values | changes)


def percents(text, name):
    return [float(value) for value in re.findall(rf"{name}:([\d.]+)%", text)]


def test_a_gap_cuts_the_line_and_the_band():
    drawn = chart([window(0), window(1), empty(2), window(3)])
    assert drawn.count('class="line"') == drawn.count('class="band"') == 2
    assert drawn.count('class="column') == 3  # what holds nothing is not to be pressed


def test_columns_lie_side_by_side_over_the_whole_axis():
    drawn = chart([window(day) for day in range(30)])
    columns = re.findall(r'style="left:([\d.]+)%;width:([\d.]+)%"', drawn)
    lefts = [float(left) for left, _ in columns]
    assert lefts == pytest.approx([day / 30 * 100 for day in range(30)], abs=0.01)
    assert {float(width) for _, width in columns} == {round(100 / 30, 3)}


def test_a_bar_is_as_high_as_its_share_of_the_axis():
    shapes = volume_shapes([window(0)], Frame(START, 4, DAY), highest=8)
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"', shapes)]
    assert heights == [12.5, 12.5, 25.0]  # 1, 1 and 2 of 8
    tops = [float(y) for y in re.findall(r' y="([\d.]+)"', shapes)]
    assert tops == [87.5, 75.0, 50.0]  # one upon the other


def test_the_net_sentiment_is_half_way_between_its_ends():
    drawn = chart([window(day, negative=0, neutral=2, positive=2) for day in range(2)])
    line = re.search(r'class="line" d="M[\d.]+ ([\d.]+)L', drawn)
    assert float(line[1]) == 25.0  # +0.5 on an axis from +1 (0) to -1 (100)


@pytest.mark.parametrize(("last", "right"), [(20, 20), (None, 30)])
def test_an_alert_covers_its_time_and_one_that_goes_on_the_rest(last, right):
    drawn = chart([window(day) for day in range(30)], [alert(15, last)])
    shade = re.search(r'class="shade open" style="left:([\d.]+)%;width:([\d.]+)%"', drawn)
    assert float(shade[1]) == pytest.approx(15 / 30 * 100, abs=0.01)
    assert float(shade[2]) == pytest.approx((right - 15) / 30 * 100, abs=0.01)
    assert "a&lt;1&gt;" in drawn
    assert "<i>odd" not in drawn


def test_an_alert_before_the_chart_is_left_out():
    assert 'class="shade' not in chart([window(day) for day in range(30)], [alert(-9, -5)])


def test_a_selection_is_marked_where_it_is_within_the_chart():
    windows = [window(day) for day in range(30)]
    drawn = chart(windows, selected=Span(START + 3 * DAY, START + 4 * DAY))
    selected = re.search(r'class="selected" style="left:([\d.]+)%;width:([\d.]+)%"', drawn)
    assert (float(selected[1]), float(selected[2])) == (10.0, pytest.approx(3.333))
    outside = chart(windows, selected=Span(START - 9 * DAY, START - 8 * DAY))
    assert 'class="selected"' not in outside


def test_nothing_but_empty_windows_is_told_as_nothing():
    assert chart([empty(0)]) == '<p class="empty">Nothing has come in yet.</p>'


def test_a_column_tells_its_figures():
    drawn = chart([window(0)], language="zh")
    assert "3月3日\n4 条\n净情绪 +0.25 (+0.15 ... +0.35)\n负面 1, 中性 1, 正面 2" in drawn


@pytest.mark.parametrize(
    ("count", "top"), [(0, 2), (1, 2), (3, 4), (9, 10), (11, 20), (41, 50), (900, 1000)]
)
def test_the_top_of_an_axis_is_a_round_number_that_suffices(count, top):
    assert round_up(count) == top
