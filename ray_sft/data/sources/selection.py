"""Which rows of a source a recipe wants: those that an expression holds for, or a stable share."""

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator
from simpleeval import EvalWithCompoundTypes, FeatureNotAvailable, InvalidExpression

from ray_sft.core import Config, reason_of

__all__ = ["Portion", "Where"]

_LONGEST_PATTERN = 200
_NO_ANSWER = (
    InvalidExpression,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


class Portion(Config):
    """A share of the rows that stays the same when rows are added or come in another order.

    Training with ``{by: [id], stop: 0.9}`` and evaluation with ``{by: [id], start: 0.9}`` divide
    one source: a row's place between 0 and 1 is a hash of its values in ``by``, so all rows with
    the same values (the turns of a customer, say) come to the same side.
    """

    by: tuple[str, ...] = Field(min_length=1)
    """Columns of the source whose values say which rows belong together."""
    start: float = Field(default=0.0, ge=0, le=1)
    """Where the share begins, included."""
    stop: float = Field(default=1.0, ge=0, le=1)
    """Where the share ends; not included, but for 1."""
    salt: str = ""
    """Another text gives another division of the same rows."""

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if self.start >= self.stop:
            raise ValueError(f"portion is empty: start {self.start} is not below stop {self.stop}")
        return self

    def has(self, row: Mapping[str, Any]) -> bool:
        """Whether a row, under the source's own names, belongs to the share.

        Raises:
            ValueError: the row has no value in any of the columns.
        """
        values = [row.get(column) for column in self.by]
        if all(value in (None, "") for value in values):
            raise ValueError(f"portion: the row has no value in {', '.join(self.by)}")
        text = json.dumps([self.salt, *values], ensure_ascii=False, default=str)
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        place = int.from_bytes(digest, "big") / 2**64
        return self.start <= place < self.stop or (place == self.stop == 1.0)


class Where:
    """An expression over the columns of a row, in Python's spelling.

    Names are columns; there are comparisons, ``and or not in``, arithmetic, the methods of strings
    and the functions of `_FUNCTIONS`. Nothing else of Python can be reached.
    """

    def __init__(self, expression: str) -> None:
        """Reads an expression; the empty one holds for every row.

        Raises:
            ValueError: it cannot be read.
        """
        self.expression = expression.strip()
        if not self.expression:
            return
        self._evaluator = EvalWithCompoundTypes(functions=_FUNCTIONS)
        try:
            ast.parse(self.expression, mode="eval")  # the library's own takes statements too
            self._parsed = self._evaluator.parse(self.expression)
        except (InvalidExpression, SyntaxError) as error:
            raise ValueError(f"where '{self.expression}' cannot be read: {error}") from None

    def __call__(self, row: Mapping[str, Any]) -> bool:
        """Whether the expression holds for a row.

        Raises:
            ValueError: it has no answer for this row, such as an order of text and number.
        """
        if not self.expression:
            return True
        self._evaluator.names = row
        try:
            return bool(self._evaluator.eval(self.expression, previously_parsed=self._parsed))
        except FeatureNotAvailable as error:
            raise ValueError(f"where '{self.expression}': {error}") from None
        except _NO_ANSWER as error:
            raise ValueError(
                f"where '{self.expression}' has no answer: {reason_of(error)}"
            ) from None


def _number(value: Any) -> float:
    """A column of text, such as those of csv files, as a number."""
    return float(value)


def _matches(text: str, pattern: str) -> bool:
    """Whether a regular expression is found in a text."""
    if len(pattern) > _LONGEST_PATTERN:
        raise ValueError(f"a pattern may have {_LONGEST_PATTERN} characters, not {len(pattern)}")
    return re.search(pattern, text) is not None


_FUNCTIONS = {
    "len": len,
    "lower": str.lower,
    "number": _number,
    "matches": _matches,
    "any": any,
    "all": all,
    "min": min,
    "max": max,
}
