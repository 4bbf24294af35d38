"""What clients send, checked and turned into what is stored."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from serve.errors import ApiError, explain_validation
from serve.recommend.catalogue import Catalogue, Item
from serve.recommend.events import Event
from serve.recommend.requests import EventIn, ItemIn
from serve.recommend.schema import RejectedEvent

__all__ = ["Intake", "check_size", "numbers_of", "read_events", "read_items"]

_CLOCK_SKEW_S = 300.0
"""A client's clock may be so far ahead."""


@dataclass(frozen=True, slots=True)
class Intake:
    """Events that can be kept, and the others."""

    events: list[Event]
    rejected: list[RejectedEvent]


def check_size(param: str, size: int, largest: int) -> None:
    """ApiError where a list of a request is longer than ``largest``."""
    if size > largest:
        raise ApiError(
            400,
            f"{param} has {size} entries; one request may have {largest}. Split it.",
            code="too_many_entries",
            param=param,
        )


def numbers_of(catalogue: Catalogue, ids: Sequence[str], *, param: str) -> list[int]:
    """The numbers of items; ApiError where some are not known."""
    unknown = [id_ for id_ in ids if id_ not in catalogue.numbers]
    if unknown:
        shown = ", ".join(f"'{id_}'" for id_ in unknown[:5])
        raise ApiError(
            400,
            f"{param} has {len(unknown)} items that are not in the catalogue ({shown}). Send them "
            "to /v1/recommend/items first, or leave them out.",
            code="unknown_item",
            param=param,
        )
    return [catalogue.numbers[id_] for id_ in ids]


def read_items(items: Sequence[ItemIn]) -> list[Item]:
    """The items, each id once; of equal ids the last counts."""
    by_id = {
        item.id: Item(
            id=item.id,
            title=item.title,
            text=item.text,
            category=item.category,
            published=item.published.timestamp() if item.published else None,
        )
        for item in items
    }
    return list(by_id.values())


def read_events(
    trees: Sequence[dict[str, Any]], *, known_items: Collection[str], now: float
) -> Intake:
    """Each event by itself; a wrong one does not keep the others out."""
    intake = Intake([], [])
    for index, tree in enumerate(trees):
        try:
            intake.events.append(_event(EventIn.model_validate(tree), known_items, now))
        except ValidationError as error:
            reason = explain_validation(error).message
            intake.rejected.append(RejectedEvent(index=index, reason=reason))
        except ValueError as error:
            intake.rejected.append(RejectedEvent(index=index, reason=str(error)))
    return intake


def _event(event: EventIn, known_items: Collection[str], now: float) -> Event:
    if event.item not in known_items:
        raise ValueError(
            f"item '{event.item}' is not in the catalogue. Send it to /v1/recommend/items first."
        )
    time = event.time.timestamp() if event.time else now
    if time > now + _CLOCK_SKEW_S:
        assert event.time is not None
        raise ValueError(f"time {event.time.isoformat()} is in the future.")
    return Event(
        id=event.id,
        user=event.user,
        item=event.item,
        kind=event.kind,
        time=min(time, now),
        value=event.value,
        ranking_id=event.ranking_id,
        position=event.position,
    )
