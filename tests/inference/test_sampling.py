import numpy as np
import pytest

from ray_sft.core import ServeError
from ray_sft.inference.sampling import sample_token

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.25, 0.2], dtype=np.float32))


def draw(num=20_000, **options) -> np.ndarray:
    rng = np.random.default_rng(0)
    options = {"temperature": 1.0, "top_k": 0, "top_p": 1.0} | options
    tokens = [sample_token(LOGITS, rng, **options) for _ in range(num)]
    return np.bincount(tokens, minlength=5) / num


def test_zero_temperature_takes_the_best_and_draws_nothing():
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    assert sample_token(LOGITS, rng, temperature=0.0, top_k=0, top_p=1.0) == 1
    assert rng.bit_generator.state == state


def test_temperature_one_draws_with_the_models_probabilities():
    np.testing.assert_allclose(draw(), [0.1, 0.4, 0.05, 0.25, 0.2], atol=0.015)


def test_temperature_sharpens_as_the_softmax_says():
    weights = np.array([0.1, 0.4, 0.05, 0.25, 0.2]) ** 2
    np.testing.assert_allclose(draw(temperature=0.5), weights / weights.sum(), atol=0.015)


def test_top_k_keeps_the_k_best():
    np.testing.assert_allclose(draw(top_k=2), [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0], atol=0.015)


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.3, [1]), (0.4, [1]), (0.41, [1, 3]), (0.85, [1, 3, 4]), (0.86, [0, 1, 3, 4])],
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p, kept):
    expected = np.zeros(5)
    expected[kept] = np.exp(LOGITS)[kept] / np.exp(LOGITS)[kept].sum()
    np.testing.assert_allclose(draw(top_p=top_p), expected, atol=0.015)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_logits_are_refused(value):
    logits = LOGITS.copy()
    logits[3] = value
    with pytest.raises(ServeError, match="not finite"):
        sample_token(logits, np.random.default_rng(0), temperature=1.0, top_k=0, top_p=1.0)
