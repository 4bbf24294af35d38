"""Times as people read them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from apps.phrases import load_phrases
from apps.views.moments import moment, span, tick_step, ticks

WORDS = {code: words.opinion_monitor for code, words in load_phrases().items()}
START = datetime(2025, 3, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_moment_is_told_in_utc_and_in_the_language():
    there = datetime(2025, 3, 4, 1, 5, tzinfo=timezone(8 * HOUR))
    assert moment(there, WORDS["en"]) == "3 Mar 17:05"
    assert moment(there, WORDS["zh"]) == "3月3日 17:05"


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        (0, 24, "3 Mar"),
        (0, 72, "3 Mar - 5 Mar"),
        (9, 10, "3 Mar 09:00 - 10:00"),
        (23, 24, "3 Mar 23:00 - 00:00"),
        (9, 33, "3 Mar 09:00 - 4 Mar 09:00"),
    ],
)
def test_a_span_is_no_longer_than_needed(start, end, text):
    assert span(START + start * HOUR, START + end * HOUR, WORDS["en"]) == text


@pytest.mark.parametrize("hours", [0.1, 1, 5, 24, 50, 24 * 30, 24 * 90, 24 * 800])
def test_no_span_has_more_marks_than_fit(hours):
    step = tick_step(hours * 3600, num_ticks=8)
    assert 1 <= hours * 3600 / step <= 8 or step == 60


def test_marks_stand_at_round_times_and_name_the_day_where_it_begins():
    marks = ticks(START - 5 * HOUR, START + 19 * HOUR, WORDS["en"])
    assert [text for _, text in marks] == [
        "21:00",
        "3 Mar",
        "03:00",
        "06:00",
        "09:00",
        "12:00",
        "15:00",
        "18:00",
    ]
