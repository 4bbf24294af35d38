"""Every length of input has run before the first request."""

from itertools import pairwise

import pytest

from ray_sft.inference import Predictor
from serve.models import Models
from serve.warm_up import warm_engine, warm_predictor
from tests.serve.test_heads import market_bundle

__all__ = ["market_bundle"]


def test_a_model_runs_every_length_alone_and_in_full_batches(classifier_bundle):
    predictor = Predictor(classifier_bundle)
    ran = warm_predictor(predictor, max_batch_tokens=128)
    lengths = sorted({length for _, length in ran})
    assert lengths[-1] == predictor.task.max_length
    assert all(later <= 2.5 * former for former, later in pairwise(lengths))  # twice, and spaces
    for length in lengths:
        batches = {num for num, found in ran if found == length}
        assert batches == {1, max(1, min(128 // length, 32))}


@pytest.mark.parametrize("task", ["topic", "moods", "click", "vector"])
def test_every_task_can_be_warmed_up(market_bundle, task):
    predictor = Predictor.each(market_bundle)[task]
    assert warm_predictor(predictor, max_batch_tokens=64)[-1][1] == predictor.task.max_length


def test_an_engine_uses_every_slot(models: Models):
    engine = models.bundles["replies"].models["replies"].engine
    bound = set()
    decoder = engine.unwatched._decoder
    original = decoder._binding
    decoder._binding = lambda first, num: bound.add((first, num)) or original(first, num)
    try:
        warm_engine(engine, num_slots=2)
    finally:
        del decoder._binding
    assert (0, 1) in bound  # a prompt
    assert (0, 2) in bound  # a step of both
    assert engine.num_active == engine.num_queued == 0
