"""Figures of continual learning against the definitions of their papers."""

import numpy as np
import pytest

from ray_sft.evaluation import retention

# R[i][j] by hand: after training i, on the rows of training j
MATRIX = np.array([[0.9, np.nan, np.nan], [0.7, 0.8, np.nan], [0.75, 0.5, 0.6]])


def columns(matrix):
    """As bundles keep them: of each training, its figures since."""
    return [matrix[j:, j].tolist() for j in range(len(matrix))]


def test_the_figures_are_those_of_the_papers():
    found = retention(columns(MATRIX), higher_is_better=True)
    assert found["average"] == pytest.approx((0.75 + 0.5 + 0.6) / 3)
    assert found["backward_transfer"] == pytest.approx(((0.75 - 0.9) + (0.5 - 0.8)) / 2)
    assert found["forgetting"] == pytest.approx(((0.9 - 0.75) + (0.8 - 0.5)) / 2)


def test_forgetting_is_measured_from_the_best_and_not_from_the_first():
    matrix = np.array([[0.5, np.nan, np.nan], [0.9, 0.8, np.nan], [0.7, 0.8, 0.6]])
    found = retention(columns(matrix), higher_is_better=True)
    assert found["forgetting"] == pytest.approx((0.9 - 0.7) / 2)
    assert found["backward_transfer"] == pytest.approx((0.7 - 0.5) / 2)


def test_where_lower_is_better_a_higher_loss_is_forgetting():
    found = retention([[1.0, 1.5], [2.0]], higher_is_better=False)
    assert found == {"average": 1.75, "forgetting": 0.5, "backward_transfer": -0.5}


def test_a_single_training_has_forgotten_nothing():
    assert retention([[0.8]], higher_is_better=True) == {
        "average": 0.8,
        "forgetting": 0.0,
        "backward_transfer": 0.0,
    }
