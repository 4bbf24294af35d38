"""Items out of a request's body: a list, a single one, or one a line.

What is wrong with one item is its own matter: it is named with its place and the reason, and the
others are taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from serve.errors import ApiError, explain_validation
from serve.monitor.args import MonitorArgs
from serve.monitor.item import Item
from serve.monitor.schema import RejectedItem

__all__ = ["Intake", "ItemsRequest", "read_body"]

_NDJSON = "application/x-ndjson"
_SHOWN_CHARACTERS = 200


class ItemsRequest(BaseModel):
    """Items to take in; one item may also stand alone."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    items: list[Item] = Field(min_length=1)
    """One bad item does not keep the others out."""


class _Envelope(BaseModel):
    """The same, its items not yet looked at."""

    model_config = ConfigDict(extra="forbid")

    items: list[object] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Intake:
    """The items of a body with their places, from 1, and those that are none."""

    items: Sequence[tuple[int, Item]]
    rejected: Sequence[RejectedItem]


def read_body(body: bytes, *, content_type: str, args: MonitorArgs, now_ms: int) -> Intake:
    """The items of a body.

    Raises:
        ApiError: 400 where the body is no list of items, or has too many.
    """
    if content_type.partition(";")[0].strip().lower() == _NDJSON:
        return _sorted_out(_lines(body), args, now_ms)
    try:
        tree = from_json(body)
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}.", code="invalid_json") from None
    try:
        if isinstance(tree, dict) and "items" not in tree:
            return _alone(Item.model_validate(tree), args, now_ms)
        found = _Envelope.model_validate(tree).items
    except ValidationError as error:
        raise explain_validation(error) from None
    return _sorted_out(list(enumerate(found, start=1)), args, now_ms)


def _alone(item: Item, args: MonitorArgs, now_ms: int) -> Intake:
    """An item that is all there is: what is wrong with it is wrong with the request."""
    if problem := _problem(item, args, now_ms):
        raise ApiError(400, f"{problem}.", code="invalid_value")
    return Intake([(1, item)], [])


def _lines(body: bytes) -> Sequence[tuple[int, object]]:
    """Every line that is not blank, parsed; what is no JSON stands as its problem."""
    return [
        (line, _parsed(text))
        for line, text in enumerate(body.split(b"\n"), start=1)
        if text.strip()
    ]


def _parsed(text: bytes) -> object:
    try:
        return from_json(text)
    except ValueError as error:
        return error


def _sorted_out(found: Sequence[tuple[int, object]], args: MonitorArgs, now_ms: int) -> Intake:
    if not found:
        raise ApiError(400, "the body has no item.", code="no_items")
    if len(found) > args.max_items:
        raise ApiError(
            400,
            f"the request has {len(found)} items; one may have {args.max_items}. Split it.",
            code="too_many_items",
        )
    items: list[tuple[int, Item]] = []
    rejected: list[RejectedItem] = []
    for line, tree in found:
        item = _item(tree, args, now_ms)
        if isinstance(item, Item):
            items.append((line, item))
        else:
            rejected.append(RejectedItem(line=line, id=_id_of(tree), reason=item))
    return Intake(items, rejected)


def _item(tree: object, args: MonitorArgs, now_ms: int) -> Item | str:
    """The item, or why it is none."""
    if isinstance(tree, ValueError):
        return f"the line is not JSON: {tree}."
    try:
        item = Item.model_validate(tree)
    except ValidationError as error:
        return explain_validation(error).message
    problem = _problem(item, args, now_ms)
    return f"{problem}." if problem else item


def _problem(item: Item, args: MonitorArgs, now_ms: int) -> str | None:
    """What the settings have against an item."""
    if len(item.text) > args.max_text_length:
        return f"text has {len(item.text)} characters; the monitor takes {args.max_text_length}"
    ahead_s = (item.time - now_ms) / 1000
    if ahead_s > args.max_future_s:
        return f"time is {ahead_s:.0f} s ahead of now; {args.max_future_s:g} s are allowed"
    return None


def _id_of(tree: object) -> str | None:
    identity = tree.get("id") if isinstance(tree, dict) else None
    return identity[:_SHOWN_CHARACTERS] if isinstance(identity, str) else None
