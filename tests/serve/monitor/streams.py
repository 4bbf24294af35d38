"""Streams of counts whose truth is known: Poisson volume, binomial opinion, surges put in."""

from dataclasses import dataclass

import numpy as np

from serve.monitor.args import AlertArgs
from serve.monitor.baseline import Counts
from serve.monitor.surge import Surge, find_surges


@dataclass(frozen=True)
class Truth:
    """How a stream is made."""

    rate: float
    """Items of a bucket."""
    share: float
    """Of them negative."""
    overdispersion: float = 0.0
    """Standard deviation of the share from bucket to bucket, and of the rate relative to it."""


def quiet_stream(truth: Truth, num_buckets: int, rng: np.random.Generator) -> list[Counts]:
    rates = np.full(num_buckets, float(truth.rate))
    shares = np.full(num_buckets, truth.share)
    if truth.overdispersion:
        rates *= rng.gamma(1 / truth.overdispersion**2, truth.overdispersion**2, num_buckets)
        weight = truth.share * (1 - truth.share) / truth.overdispersion**2 - 1
        shares = rng.beta(truth.share * weight, (1 - truth.share) * weight, num_buckets)
    counts = rng.poisson(rates)
    negatives = rng.binomial(counts, shares)
    return [
        Counts(bucket, int(count), int(negative))
        for bucket, (count, negative) in enumerate(zip(counts, negatives, strict=True))
    ]


def with_surge(
    stream: list[Counts],
    *,
    start: int,
    length: int,
    rate: float,
    share: float,
    rng: np.random.Generator,
) -> list[Counts]:
    """The stream, in ``length`` buckets replaced by others."""
    changed = list(stream)
    for bucket in range(start, start + length):
        count = int(rng.poisson(rate))
        changed[bucket] = Counts(bucket, count, int(rng.binomial(count, share)))
    return changed


def surges_of(stream: list[Counts], args: AlertArgs) -> tuple[Surge, ...]:
    """What is found once the stream has gone on."""
    present = [counts for counts in stream if counts.count]
    return find_surges(present, args, newest=stream[-1].bucket + 1).surges
