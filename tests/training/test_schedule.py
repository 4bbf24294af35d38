import math

import numpy as np
import pytest

from ray_sft.data import StepPlan
from ray_sft.training import Train
from ray_sft.training.epochs import total_steps
from ray_sft.training.schedule import learning_rate


def rates(**settings):
    train = Train(learning_rate=1.0, **settings)
    return [learning_rate(step, num_steps=10, train=train) for step in range(10)]


def test_the_warm_up_rises_to_the_peak_and_linear_falls_towards_zero():
    found = rates(warmup=0.2)
    assert found[:3] == [0.5, 1.0, 1.0]
    assert found[-1] == pytest.approx(1 / 8)


def test_cosine_is_half_way_down_in_the_middle():
    found = rates(warmup=0.0, schedule="cosine")
    assert found[0] == 1.0
    assert found[5] == pytest.approx(0.5)
    assert found[8] == pytest.approx(0.5 * (1 + math.cos(0.8 * math.pi)))


def test_constant_stays_at_the_peak_after_the_warm_up():
    assert set(rates(warmup=0.1, schedule="constant")) == {1.0}


def test_steps_say_how_long_to_train_whatever_the_epochs():
    plan = StepPlan(np.full(30, 10), tokens_per_step=100, seed=0)
    assert total_steps(plan, Train(epochs=4)) == 12
    assert total_steps(plan, Train(epochs=4, steps=5)) == 5
    assert total_steps(plan, Train(epochs=4, steps=50)) == 50
