"""What a recipe may say about searching."""

import json

import pytest
from ray.tune.search.sample import Categorical, Float, Integer

from ray_sft.core import ConfigError, validate
from ray_sft.training import Tune


def tune(**space) -> Tune:
    return validate(Tune, {"space": space}, what="tune")


def test_domains_are_those_of_ray_tune():
    found = tune(
        **{
            "train.learning_rate": {"kind": "log_uniform", "low": 1e-4, "high": 1e-2},
            "train.weight_decay": {"kind": "uniform", "low": 0, "high": 0.1},
            "train.epochs": {"kind": "integers", "low": 2, "high": 4},
            "objectives": {"kind": "choice", "values": [[], [{"kind": "r_drop"}]]},
        }
    )
    rate, decay, epochs, objectives = (one.sampled() for one in found.space.values())
    assert (type(rate), rate.lower, rate.upper) == (Float, 1e-4, 1e-2)
    assert "LogUniform" in type(rate.get_sampler()).__name__
    assert (type(decay), decay.lower, decay.upper) == (Float, 0, 0.1)
    assert isinstance(epochs, Integer)
    assert {epochs.sample() for _ in range(60)} == {2, 3, 4}
    assert isinstance(objectives, Categorical)
    assert [json.loads(v) for v in objectives.categories] == [[], [{"kind": "r_drop"}]]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"data.it.train.take": {"kind": "integers", "low": 1, "high": 2}}, "learn from the same"),
        ({"train.epochs": {"kind": "integers", "low": 2, "high": 2}}, r"low \(2\) must be below"),
        ({"train.seed": {"kind": "choice", "values": [1]}}, "at least 2 items"),
        ({"train.beta1": {"kind": "log_uniform", "low": 0, "high": 1}}, "greater than 0"),
        ({}, "at least 1 item"),
    ],
)
def test_a_space_that_cannot_be_searched_says_why(space, message):
    with pytest.raises(ConfigError, match=message):
        tune(**space)
