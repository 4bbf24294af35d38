"""The probabilities, against scipy's and against draws."""

import numpy as np
import pytest
from scipy.stats import betabinom, dirichlet, nbinom

from serve.monitor.distributions import net_sentiment_band, tail_probability, volume_score


@pytest.mark.parametrize("num_trials", [1, 7, 40, 1000, 100_000])
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (3.0, 17.0), (80.0, 20.0), (0.6, 99.4)])
def test_tail_is_that_of_the_beta_binomial(num_trials: int, alpha: float, beta: float) -> None:
    wanted = {0, 1, num_trials // 5, num_trials // 2, num_trials - 1, num_trials}
    for num_hits in sorted(wanted):
        found = tail_probability(num_hits, num_trials, alpha=alpha, beta=beta)
        # not by .sf, which is 1 - cdf and has nothing left of a small tail
        terms = betabinom.pmf(np.arange(num_hits, num_trials + 1), num_trials, alpha, beta)
        assert found == pytest.approx(terms.sum(), rel=1e-6)


def test_a_tail_far_below_double_precision_is_still_exact() -> None:
    """The last term alone: a product of n fractions, in closed form."""
    expected = np.prod([(2.0 + i) / (100.0 + i) for i in range(30)])
    assert tail_probability(30, 30, alpha=2.0, beta=98.0) == pytest.approx(expected, rel=1e-10)


def test_volume_score_has_the_variance_of_a_negative_binomial() -> None:
    counts = nbinom(n=5, p=0.2)  # mean 20, variance 100
    score = volume_score(50, mean=counts.mean(), variance=counts.var())
    assert score == pytest.approx((50 - counts.mean()) / counts.std())
    assert volume_score(50, mean=20.0, variance=3.0) == pytest.approx(30 / np.sqrt(20))


@pytest.mark.parametrize(
    ("positive", "neutral", "negative"),
    [(0, 0, 1), (3, 2, 1), (0, 5, 12), (40, 30, 10), (0, 200, 0)],
)
def test_band_holds_the_net_sentiment_with_its_credibility(
    positive: int, neutral: int, negative: int
) -> None:
    low, high = net_sentiment_band(positive=positive, neutral=neutral, negative=negative)
    assert -1 <= low < high <= 1
    draws = dirichlet.rvs(
        [positive + 0.5, neutral + 0.5, negative + 0.5],
        size=200_000,
        random_state=np.random.default_rng(0),
    )
    net = draws[:, 0] - draws[:, 2]
    assert np.mean((net >= low) & (net <= high)) == pytest.approx(0.95, abs=0.02)


def test_band_narrows_with_more_items() -> None:
    widths = []
    for scale in (1, 10, 100):
        low, high = net_sentiment_band(positive=3 * scale, neutral=scale, negative=scale)
        widths.append(high - low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]
