"""Items of a market feed: calm hours, and hours in which one topic falls."""

import random
from collections.abc import Iterable, Sequence

from serve.monitor.ingest import Reading
from serve.monitor.item import Item
from serve.monitor.opinion import Opinion

from .conftest import NOON
from .words import read_word

HOUR = 3600


def item(identity: str, seconds: float, text: str, **more: object) -> Item:
    return Item.model_validate({"id": identity, "time": NOON + seconds, "text": text, **more})


def hour(topic: str, number: int, *, count: int, negative: int) -> list[Item]:
    """So many items within the hour, the negative ones spread among them."""
    items = []
    for place in range(count):
        is_negative = place * negative // count < (place + 1) * negative // count
        text = f"{topic} {'fell' if is_negative else 'stood'}"
        seconds = number * HOUR + place * HOUR / count
        items.append(item(f"{topic}-{number}-{place}", seconds, text))
    return items


def calm(topic: str, hours: Iterable[int]) -> list[Item]:
    return [one for number in hours for one in hour(topic, number, count=10, negative=2)]


def shuffled(items: Sequence[Item], seed: int) -> list[Item]:
    copy = list(items)
    random.Random(seed).shuffle(copy)
    return copy


def read(items: Iterable[Item]) -> list[Reading]:
    """As the model that looks for words reads them."""
    readings = []
    for one in items:
        opinion = read_word(one.text)
        assert isinstance(opinion, Opinion)
        readings.append(Reading(one, opinion))
    return readings
