import numpy as np
import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from ray_sft.core import ServeError
from ray_sft.inference.generation.sampling import (
    Penalties,
    check_finite,
    sample_token,
    score_token,
)

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
        check_finite(logits)


def test_an_excluded_token_is_never_drawn():
    logits = np.full(1000, -np.inf, dtype=np.float32)
    logits[[3, 998]] = 0.0
    for options in ({}, {"top_k": 5}, {"top_p": 0.99}):
        found = {
            sample_token(
                logits,
                np.random.default_rng(seed),
                **({"temperature": 2.0, "top_k": 0, "top_p": 1.0} | options),
            )
            for seed in range(50)
        }
        assert found == {3, 998}


def test_the_nucleus_is_that_of_a_full_sort():
    """What is left out before sorting cannot belong to it: the drawn tokens are those of numpy."""
    rng = np.random.default_rng(1)
    for top_p in (0.05, 0.5, 0.9, 0.999):
        logits = rng.normal(size=5000).astype(np.float32) * 3
        weights = np.exp(logits.astype(np.float64))
        order = np.argsort(-weights)
        reached = np.cumsum(weights[order] / weights.sum())
        nucleus = set(order[: np.searchsorted(reached, top_p) + 1].tolist())
        drawn = {
            sample_token(logits, rng, temperature=1.0, top_k=0, top_p=top_p) for _ in range(300)
        }
        assert drawn <= nucleus
        assert len(drawn) > min(len(nucleus), 60) / 3


def test_scores_are_the_log_softmax():
    logits = np.random.default_rng(0).normal(size=400).astype(np.float32) * 5
    expected = torch.log_softmax(torch.from_numpy(logits).double(), dim=0)
    score = score_token(logits, 17, num_top=5)
    best = torch.topk(expected, 5)
    assert score.log_probability == pytest.approx(float(expected[17]), abs=1e-9)
    assert [token for token, _ in score.top] == best.indices.tolist()
    np.testing.assert_allclose([value for _, value in score.top], best.values, atol=1e-9)
    assert score_token(logits, 17, num_top=0).top == ()


@pytest.mark.parametrize("penalty", [1.3, 0.7])
def test_the_repetition_penalty_is_that_of_transformers(penalty):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=50).astype(np.float32)
    prompt, reply = [3, 8, 8, 21], [8, 40]
    ours = Penalties(prompt, repetition=penalty, presence=0.0, frequency=0.0)
    for token in reply:
        ours.add(token)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(
        torch.tensor([prompt + reply]), torch.from_numpy(logits)[None]
    )
    np.testing.assert_allclose(ours.apply(logits), theirs[0], rtol=1e-6)


def test_presence_and_frequency_count_the_reply_alone():
    logits = np.zeros(6, dtype=np.float32)
    penalties = Penalties([0, 1], repetition=1.0, presence=0.5, frequency=0.25)
    for token in (2, 2, 2, 4):
        penalties.add(token)
    np.testing.assert_allclose(penalties.apply(logits), [0, 0, -1.25, 0, -0.75, 0])
    assert (logits == 0).all()
