import numpy as np
import pytest

from ray_sft.inference import plan_batches


@pytest.mark.parametrize("budget", [1, 16, 64, 1000])
def test_every_position_once_within_the_budget(budget):
    lengths = np.random.default_rng(0).integers(1, 60, size=97).tolist()
    groups = plan_batches(lengths, max_batch_tokens=budget)
    assert sorted(index for group in groups for index in group) == list(range(97))
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert len(group) == 1 or longest * len(group) <= budget


def test_groups_are_full_and_of_similar_length():
    assert plan_batches([5, 1, 5, 1, 1], max_batch_tokens=10) == [[1, 3, 4], [0, 2]]


def test_nothing_gives_no_batches():
    assert plan_batches([], max_batch_tokens=8) == []
