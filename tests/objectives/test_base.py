"""The order of a list of objectives, and what a list may hold."""

from typing import Literal

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from ray_sft.objectives import LabelSmoothing, Objective, Objectives, RDrop, wrap_all

LISTS = TypeAdapter(Objectives)


class Named(Objective):
    """Writes down when it is entered."""

    kind: Literal["named"] = "named"
    name: str
    """What it writes."""

    def wrap(self, loss_fn, module):
        del module
        return lambda batch: loss_fn([*batch, self.name])


def test_the_first_objective_is_the_innermost():
    objectives = [Named(name="first"), Named(name="second"), Named(name="third")]
    run = wrap_all(objectives, lambda batch: batch, torch.nn.Identity())
    assert run([]) == ["third", "second", "first"]


def test_no_objectives_leave_the_loss_function_alone():
    def loss_fn(_batch):
        raise AssertionError

    assert wrap_all([], loss_fn, torch.nn.Identity()) is loss_fn


def test_a_list_is_read_by_kind_and_keeps_its_order():
    tree = [{"kind": "label_smoothing", "epsilon": 0.2}, {"kind": "r_drop"}]
    assert LISTS.validate_python(tree) == (LabelSmoothing(epsilon=0.2), RDrop())


def test_a_kind_that_stands_twice_is_refused():
    with pytest.raises(ValidationError, match="fgm stands twice"):
        LISTS.validate_python([{"kind": "fgm"}, {"kind": "r_drop"}, {"kind": "fgm"}])


@pytest.mark.parametrize(
    "tree",
    [
        {"kind": "label_smoothing", "epsilon": 1.0},
        {"kind": "label_smoothing", "epsilon": -0.1},
        {"kind": "r_drop", "alpha": -1.0},
        {"kind": "fgm", "epsilon": -1.0},
        {"kind": "fgm", "weight": -1.0},
        {"kind": "fgm", "eps": 1.0},
        {"kind": "unheard_of"},
    ],
    ids=str,
)
def test_values_without_a_meaning_are_refused(tree):
    with pytest.raises(ValidationError):
        LISTS.validate_python([tree])
