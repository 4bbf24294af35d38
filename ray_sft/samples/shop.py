"""Products of the invented shop and what its users did with them.

Users have two favourite categories and a budget, and act on them most of the time, so that a
recommender has something to learn. Ratings (1 to 5) exist for purchases only.
"""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal

from ray_sft.samples.material_reader import read_sections

__all__ = ["Event", "Interaction", "Item", "interactions", "items"]

Event = Literal["view", "like", "purchase", "hide"]

_NUM_USERS = 120
_NUM_EVENTS = 2500
_START = datetime(2025, 1, 6, tzinfo=UTC)
_NUM_DAYS = 90


@dataclass(frozen=True, slots=True)
class Item:
    """A product; the price is in dollars."""

    item_id: str
    title: str
    category: str
    description: str
    price: str


@dataclass(frozen=True, slots=True)
class Interaction:
    """One event of one user; `rating` is 0 where there is none."""

    user_id: str
    item_id: str
    time: datetime
    event: Event
    rating: int


@dataclass(frozen=True, slots=True)
class _User:
    user_id: str
    favourites: tuple[str, str]
    budget: float
    activity: float


def items() -> list[Item]:
    """All products in the order of the material."""
    rows: list[Item] = []
    for category, lines in read_sections("items").items():
        for line in lines:
            title, description, price = (part.strip() for part in line.split("|"))
            rows.append(Item(f"item-{len(rows) + 1:03d}", title, category, description, price))
    return rows


def interactions(*, seed: int) -> list[Interaction]:
    """Events of all users in the order of time; a purchase is never repeated."""
    rng = Random(f"{seed}/shop")
    products = items()
    users = [
        _user(number, sorted({p.category for p in products}), rng)
        for number in range(1, _NUM_USERS + 1)
    ]
    popularity = {p.item_id: rng.lognormvariate(0, 0.6) for p in products}
    seconds = sorted(rng.sample(range(_NUM_DAYS * 86400), k=_NUM_EVENTS))
    guaranteed = [user for user in users for _ in range(5)]
    rest = rng.choices(users, [u.activity for u in users], k=_NUM_EVENTS - len(guaranteed))
    actors = guaranteed + rest
    rng.shuffle(actors)
    done: set[tuple[str, str]] = set()
    rows: list[Interaction] = []
    for second, user in zip(seconds, actors, strict=True):
        fresh = [p for p in products if (user.user_id, p.item_id) not in done]
        product = rng.choices(fresh, [_pull(user, p) * popularity[p.item_id] for p in fresh])[0]
        event, rating = _reaction(user, product, rng)
        if event in ("purchase", "hide"):
            done.add((user.user_id, product.item_id))
        time = _START + timedelta(seconds=second)
        rows.append(Interaction(user.user_id, product.item_id, time, event, rating))
    return rows


def _user(number: int, categories: list[str], rng: Random) -> _User:
    first, second = rng.sample(categories, k=2)
    budget = rng.choice([30.0, 60.0, 120.0])
    return _User(f"user-{number:03d}", (first, second), budget, rng.lognormvariate(0, 0.5))


def _pull(user: _User, product: Item) -> float:
    first, second = user.favourites
    taste = {first: 14.0, second: 8.0}.get(product.category, 1.0)
    return taste if float(product.price) <= user.budget else taste * 0.35


def _reaction(user: _User, product: Item, rng: Random) -> tuple[Event, int]:
    """An event and its rating: favourites are liked and bought, the rest is viewed or hidden."""
    fits = product.category in user.favourites
    affordable = float(product.price) <= user.budget
    limits = (
        (0.52, 0.76, 0.98)
        if fits and affordable
        else (0.7, 0.93, 0.98)
        if fits
        else (0.72, 0.76, 0.8)
    )
    events: tuple[Event, ...] = ("view", "like", "purchase", "hide")
    event = events[bisect_left(limits, rng.random())]
    if event != "purchase":
        return event, 0
    return event, rng.choice([4, 4, 5, 5, 5, 3] if fits else [2, 3, 3, 4, 1])
