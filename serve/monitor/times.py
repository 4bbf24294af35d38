"""Times as they come and go: ISO 8601 or epoch seconds outside, whole milliseconds inside."""

import math
import re
from datetime import UTC, datetime, timedelta

from pydantic_core import PydanticCustomError

__all__ = ["format_time", "parse_query_time", "parse_time"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END = 253_402_300_800_000
"""The year 10000 in milliseconds."""


def parse_time(value: object) -> int:
    """Milliseconds since 1970 of an ISO 8601 text with an offset, or of epoch seconds.

    Raises:
        PydanticCustomError: anything else; a subclass of ValueError, whose text is for the client.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _problem("a time is ISO 8601 text or epoch seconds")
    if isinstance(value, str):
        return _within(_from_text(value))
    time_ms = value * 1000
    if isinstance(time_ms, float) and not math.isfinite(time_ms):
        raise _problem("a time is a finite number of seconds")
    return _within(round(time_ms))


def parse_query_time(text: str) -> int:
    """As `parse_time`, for a query, where numbers come as text."""
    return parse_time(float(text) if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", text) else text)


def format_time(time_ms: int) -> str:
    """ISO 8601 in UTC, like ``2026-05-01T10:00:00.000Z``."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _from_text(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _problem(
            "not ISO 8601 like 2026-05-01T10:00:00Z (in a query, write '+' as %2B)"
        ) from None
    if moment.tzinfo is None:
        raise _problem("has no offset from UTC: add Z, or one like +08:00")
    return round((moment - _EPOCH) / timedelta(milliseconds=1))


def _within(time_ms: int) -> int:
    if time_ms < 0:
        raise _problem("is before 1970")
    if time_ms >= _END:
        raise _problem("is after the year 9999: epoch times are seconds, not milliseconds")
    return time_ms


def _problem(said: str) -> PydanticCustomError:
    return PydanticCustomError("time", "{said}", {"said": said})
