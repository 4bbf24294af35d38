"""What is known of a topic's usual opinion, and how unusual a bucket is beside it."""

import math
from dataclasses import dataclass, replace

from serve.monitor.args import AlertArgs
from serve.monitor.distributions import tail_probability, volume_score

__all__ = ["Baseline", "Counts", "Judgement", "judge"]

_LEAST_P = 1e-300
_PRIOR_PAIRS = 2000.0
"""Pairs of items that the assumed correlation weighs as much as."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The items of one topic in one bucket; it begins at ``bucket`` times the buckets' length."""

    bucket: int
    count: int
    negative: int
    positive: int = 0


@dataclass(frozen=True, slots=True)
class Baseline:
    """Exponentially weighted sums over the buckets of the past, empty ones included."""

    buckets: float = 0.0
    items: float = 0.0
    negatives: float = 0.0
    item_squares: float = 0.0
    negative_squares: float = 0.0
    products: float = 0.0
    """Of the numbers of items and of negative ones."""

    def learn(self, counts: Counts, decay: float) -> "Baseline":
        """With one more bucket."""
        faded = self._faded(decay)
        return Baseline(
            faded.buckets + 1.0,
            faded.items + counts.count,
            faded.negatives + counts.negative,
            faded.item_squares + counts.count**2,
            faded.negative_squares + counts.negative**2,
            faded.products + counts.count * counts.negative,
        )

    def pass_empty(self, num_buckets: int, decay: float) -> "Baseline":
        """With so many buckets without an item."""
        left = decay**num_buckets
        faded = self._faded(left)
        return replace(faded, buckets=faded.buckets + (1.0 - left) / (1.0 - decay))

    @property
    def share(self) -> float:
        """Expected share of negative items: the mean under Jeffreys' prior."""
        return (self.negatives + 0.5) / (self.items + 1.0)

    def correlation(self, least: float) -> float:
        """How alike the items of one bucket are, as far as the past shows; ``least`` or more.

        The intraclass correlation of the beta-binomial by moments: squared deviations of the
        negatives beyond a binomial's, by pairs of items; drawn towards ``least`` where few pairs
        were seen.
        """
        share = self.share
        variance = share * (1.0 - share)
        deviations = (
            self.negative_squares - 2.0 * share * self.products + share * share * self.item_squares
        )
        excess = deviations / variance - self.items
        pairs = self.item_squares - self.items
        return max(least, (excess + least * _PRIOR_PAIRS) / (pairs + _PRIOR_PAIRS))

    def volume_score(self, num_negative: int) -> float:
        """Standard deviations by which a bucket has more negative items than usual."""
        mean = (self.negatives + 0.5) / (self.buckets + 1.0)
        variance = self.negative_squares / (self.buckets + 1.0) - mean**2
        return volume_score(num_negative, mean=mean, variance=variance)

    def _faded(self, left: float) -> "Baseline":
        return Baseline(
            self.buckets * left,
            self.items * left,
            self.negatives * left,
            self.item_squares * left,
            self.negative_squares * left,
            self.products * left,
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """How unusual one bucket is."""

    expected_share: float
    effect: float
    """Negative share above the expected one."""
    score: float
    """Minus the decimal logarithm of the probability of so many negative items."""
    volume_score: float
    raises: bool
    holds: bool


def judge(counts: Counts, baseline: Baseline, args: AlertArgs) -> Judgement:
    """The bucket beside what the baseline leads to expect."""
    expected = baseline.share
    correlation = baseline.correlation(args.correlation)
    # not knowing the usual share, and the share's own ups and downs, add up
    weight = 1.0 / (1.0 / (baseline.items + 1.0) + correlation / (1.0 - correlation))
    p = tail_probability(
        counts.negative,
        counts.count,
        alpha=expected * weight,
        beta=(1.0 - expected) * weight,
    )
    effect = counts.negative / counts.count - expected
    return Judgement(
        expected_share=expected,
        effect=effect,
        score=-math.log10(max(p, _LEAST_P)),
        volume_score=baseline.volume_score(counts.negative),
        raises=(counts.count >= args.min_count and effect >= args.min_effect and p <= args.raise_p),
        holds=effect >= args.min_effect / 2.0 and p <= args.hold_p,
    )
