from datetime import UTC, datetime

import pytest

from serve.monitor.times import format_time, parse_query_time, parse_time

MOMENT = 1_777_629_600_000


@pytest.mark.parametrize(
    "value",
    [
        "2026-05-01T10:00:00Z",
        "2026-05-01T10:00:00.000+00:00",
        "2026-05-01T18:00:00+08:00",
        "20260501T100000Z",
        MOMENT // 1000,
        MOMENT / 1000,
    ],
)
def test_every_form_of_a_time_is_the_same_moment(value: str | float) -> None:
    assert parse_time(value) == MOMENT
    assert datetime.fromisoformat("2026-05-01T10:00:00Z") == datetime.fromtimestamp(
        MOMENT / 1000, UTC
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("yesterday", "not ISO 8601"),
        ("2026-05-01T10:00:00", "no offset"),
        ("2026-05-01T10:00:00 08:00", "write '\\+' as %2B"),
        ("", "not ISO 8601"),
        (True, "ISO 8601 text or epoch"),
        (None, "ISO 8601 text or epoch"),
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        (1e300, "after the year 9999"),
        (1e307, "finite"),
        (10**400, "after the year 9999"),
        (-(10**400), "before 1970"),
        (MOMENT, "not milliseconds"),
        (-1, "before 1970"),
        ("1969-12-31T23:59:59Z", "before 1970"),
    ],
)
def test_what_is_no_time_is_explained(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_time(value)


def test_a_query_may_hold_epoch_seconds() -> None:
    assert parse_query_time("1777629600") == parse_query_time("2026-05-01T10:00:00Z") == MOMENT
    assert parse_query_time("1777629600.25") == MOMENT + 250
    with pytest.raises(ValueError, match="not ISO 8601"):
        parse_query_time("1_0")


@pytest.mark.parametrize("time_ms", [0, 1, MOMENT + 7, 253_402_300_799_999])
def test_a_time_comes_back_as_it_went(time_ms: int) -> None:
    assert parse_time(format_time(time_ms)) == time_ms
