"""The probabilities behind an alert and behind a chart's band. Pure functions of counts."""

import math

from scipy.special import betaincinv

__all__ = ["net_sentiment_band", "tail_probability", "volume_score"]

_NEGLIGIBLE = 1e-17


def tail_probability(num_hits: int, num_trials: int, *, alpha: float, beta: float) -> float:
    """Probability that a beta-binomial count reaches ``num_hits`` of ``num_trials``.

    The share of hits is itself uncertain, Beta(``alpha``, ``beta``), so that few trials, or a
    little-known share, say little. Exact up to rounding: the terms of the smaller side are
    summed, each from the one before it.
    """
    if num_hits <= 0:
        return 1.0
    if num_hits <= num_trials * alpha / (alpha + beta):
        num_misses = num_trials - num_hits + 1
        return 1.0 - tail_probability(num_misses, num_trials, alpha=beta, beta=alpha)
    term = math.exp(
        _log_choose(num_trials, num_hits)
        + _log_beta(alpha + num_hits, beta + num_trials - num_hits)
        - _log_beta(alpha, beta)
    )
    total = term
    for hits in range(num_hits, num_trials):
        left = num_trials - hits
        ratio = left * (alpha + hits) / ((hits + 1) * (beta + left - 1))
        term *= ratio
        total += term
        if ratio < 1.0 and term < total * _NEGLIGIBLE:
            break
    return min(1.0, total)


def volume_score(count: int, *, mean: float, variance: float) -> float:
    """Standard deviations of a count above its mean, with negative-binomial variance.

    The variance is ``mean + dispersion * mean ** 2``; the dispersion is what ``variance`` has
    over a Poisson count's, and never below zero.
    """
    return (count - mean) / math.sqrt(max(variance, mean))


def net_sentiment_band(
    *, positive: int, neutral: int, negative: int, level: float = 0.95
) -> tuple[float, float]:
    """Credible bounds of the share of positive less that of negative, from -1 to 1.

    The three shares have a Dirichlet posterior with Jeffreys' prior (1/2 each). The bounds are
    those of the Beta distribution on [-1, 1] with the mean and variance of the difference.
    """
    plus, none, minus = positive + 0.5, neutral + 0.5, negative + 0.5
    total = plus + none + minus
    mean = (plus - minus) / total
    variance = ((plus + minus) / total - mean**2) / (total + 1.0)
    half = (1.0 + mean) / 2.0
    weight = half * (1.0 - half) / (variance / 4.0) - 1.0
    alpha, beta = half * weight, (1.0 - half) * weight
    tails = ((1.0 - level) / 2.0, (1.0 + level) / 2.0)
    low, high = (2.0 * float(betaincinv(alpha, beta, tail)) - 1.0 for tail in tails)
    return low, high


def _log_choose(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)


def _log_beta(alpha: float, beta: float) -> float:
    return math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)
