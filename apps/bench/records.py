"""Outcomes as columns of numbers: 72 bytes a request, so that long loads fit in memory."""

from array import array
from math import nan

import numpy as np
from numpy.typing import NDArray

from apps.bench.outcome import Outcome

__all__ = ["Records"]

Column = NDArray[np.float64]


class Records:
    """What became of every request, in the order in which they ended; NaN: not told."""

    def __init__(self) -> None:
        """Empty."""
        self.gaps_s = array("d")
        """Between the texts of streamed replies, those of all requests together."""
        self.codes: list[str | None] = [None]
        """What went wrong, by the number in the column ``code``; the first is a success."""
        self.num_failed = 0
        self._numbers: dict[str | None, int] = {None: 0}
        self._columns = {name: array("d") for name in _COLUMNS}

    def __len__(self) -> int:
        return len(self._columns["start"])

    def add(self, outcome: Outcome) -> None:
        """Keeps an outcome."""
        number = self._numbers.get(outcome.code)
        if number is None:
            number = self._numbers[outcome.code] = len(self.codes)
            self.codes.append(outcome.code)
        self.num_failed += number != 0
        values = (
            outcome.start,
            outcome.end,
            nan if outcome.status is None else outcome.status,
            number,
            outcome.num_tokens,
            _number(outcome.queue_ms),
            _number(outcome.inference_ms),
            _number(outcome.batch_size),
            _number(outcome.first_token_s),
        )
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)
        if outcome.gaps_s:
            self.gaps_s.extend(outcome.gaps_s)

    def column(self, name: str, *, last: int = 0) -> Column:
        """A copy of a column, or of its ``last`` entries."""
        return np.array(self._columns[name][-last:] if last else self._columns[name])


_COLUMNS = (
    "start",
    "end",
    "status",
    "code",
    "num_tokens",
    "queue_ms",
    "inference_ms",
    "batch_size",
    "first_token_s",
)


def _number(value: float | None) -> float:
    return nan if value is None else value
