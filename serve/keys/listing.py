"""What a person sees of a key file, and how long a time is that a person writes."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

from rich.markup import escape
from rich.table import Table

from ray_sft.core import ConfigError
from serve.keys.api_key import ApiKey, KeyLimits
from serve.keys.scopes import SCOPES, ScopeName

__all__ = ["key_table", "parse_duration", "parse_scopes"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(rf"(\d{{1,6}})([{''.join(_UNITS)}])")


def key_table(keys: Sequence[ApiKey], now: datetime) -> Table:
    """A row for each key; neither tokens nor what is kept of them."""
    table = Table(caption="times in UTC")
    for column in ("name", "scopes", "models", "state", "expires", "limits", "created"):
        table.add_column(column, overflow="fold")  # on a narrow screen nothing is left out
    for key in keys:
        table.add_row(
            escape(key.name),
            " ".join(key.scopes),
            escape(" ".join(key.models)) or "all",
            _state(key, now),
            _moment(key.expires) if key.expires else "never",
            _limits(key.limits),
            _moment(datetime.fromisoformat(key.created)) if key.created else "unknown",
        )
    return table


def parse_duration(text: str) -> timedelta:
    """``90d``, ``24h``, ``30m``, ``2w`` or ``0s`` as a length of time.

    Raises:
        ConfigError: it is none of these.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"'{text}' is no length of time. Write a number and a unit: 30m, 24h, 90d or 2w."
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def parse_scopes(names: Sequence[str]) -> tuple[ScopeName, ...]:
    """The scopes of these names, each once.

    Raises:
        ConfigError: there is no such scope.
    """
    for name in names:
        if name not in SCOPES:
            known = "; ".join(f"{scope} ({opens})" for scope, opens in SCOPES.items())
            raise ConfigError(f"there is no scope '{name}'. Those there are: {known}.")
    return tuple(cast(ScopeName, name) for name in dict.fromkeys(names))


def _state(key: ApiKey, now: datetime) -> str:
    state = key.state(now)
    ends = [token.expires for token in key.retiring if token.expires > now]
    if state == "valid" and ends:
        return f"valid; old token until {_moment(max(ends))}"
    return state


def _limits(limits: KeyLimits) -> str:
    """In the words of the options; what is left out is as the service says."""
    units = {
        "requests_per_minute": "requests/min",
        "tokens_per_minute": "tokens/min",
        "concurrent_requests": "at once",
    }
    given = limits.model_dump(exclude_none=True)
    parts = [f"{given[name] or 'any'} {unit}" for name, unit in units.items() if name in given]
    return ", ".join(parts) or "the service's"


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
