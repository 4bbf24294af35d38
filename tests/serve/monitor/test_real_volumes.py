"""Surges put into the real volumes of two years of stock tweets, bursts and quiet days included."""

import json
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from serve.monitor import AlertArgs
from serve.monitor.baseline import Counts

from .streams import surges_of

STREAM = Path(__file__).resolve().parents[4] / "shared/data/stocknet/tweets_by_time.jsonl"
DAY = 86_400
LENGTH = 3
"""Days of a surge."""

pytestmark = pytest.mark.skipif(
    not STREAM.is_file(), reason="the shared data sets are not beside the checkout"
)


@pytest.fixture(scope="module")
def volumes() -> dict[str, np.ndarray]:
    """Tweets of each day, by ticker."""
    found: dict[str, Counter[int]] = {}
    with STREAM.open(encoding="utf-8") as file:
        for line in file:
            tweet = json.loads(line)
            day = int(datetime.fromisoformat(tweet["ts"]).timestamp()) // DAY
            for ticker in tweet["tickers"]:
                found.setdefault(ticker, Counter())[day] += 1
    first = min(day for counter in found.values() for day in counter)
    last = max(day for counter in found.values() for day in counter)
    return {
        ticker: np.array([counter[day] for day in range(first, last + 1)])
        for ticker, counter in sorted(found.items())
    }


def stream(volume: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> list[Counts]:
    negatives = rng.binomial(volume, shares)
    return [
        Counts(day, int(count), int(negative))
        for day, (count, negative) in enumerate(zip(volume, negatives, strict=True))
    ]


def test_bursts_of_volume_alone_raise_nearly_nothing(volumes: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    alarms = sum(
        len(surges_of(stream(volume, np.full(len(volume), 0.25), rng), AlertArgs()))
        for volume in volumes.values()
    )
    num_days = sum(len(volume) for volume in volumes.values())
    assert num_days > 60_000
    assert alarms <= AlertArgs().raise_p * num_days, f"{1000 * alarms / num_days:.3f} per 1000"


def test_surges_are_found_where_there_is_something_to_see(volumes: dict[str, np.ndarray]) -> None:
    """Three days of 65 instead of 25 percent negative, where 60 tweets or more fall into them."""
    rng = np.random.default_rng(1)
    num_surges = 0
    delays = []
    for volume in volumes.values():
        sums = np.convolve(volume, np.ones(LENGTH), mode="valid")
        days = [day for day in np.flatnonzero(sums >= 60) if day >= 60]
        for start in rng.choice(days, size=min(15, len(days)), replace=False) if days else ():
            shares = np.full(len(volume), 0.25)
            shares[start : start + LENGTH] = 0.65
            surges = surges_of(stream(volume, shares, rng), AlertArgs())
            hits = [surge.start for surge in surges if start <= surge.start < start + LENGTH]
            delays += [hits[0] - start] if hits else []
            num_surges += 1
    assert num_surges >= 100
    assert len(delays) >= 0.88 * num_surges, f"{len(delays)} of {num_surges}"
    assert np.mean(delays) <= 0.75
