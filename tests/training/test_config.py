"""What settings of training are refused, and what DeepSpeed is told of those that are not."""

import pytest
import torch
from pydantic import ValidationError

from ray_sft.training import Train
from ray_sft.training.deepspeed_config import deepspeed_config

CPU = {"device": "cpu", "pin_memory": True}
DISK = {"device": "nvme", "pin_memory": True, "nvme_path": "/fast"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"offload": "optimizer", "zero_stage": 0}, "needs zero_stage 1 or more"),
        ({"offload": "all", "zero_stage": 2}, "needs zero_stage: 3"),
        ({"offload": "optimizer", "zero_stage": 2, "offload_dir": "/fast"}, "needs zero_stage: 3"),
        ({"zero_stage": 3, "offload_dir": "/fast"}, "offload: optimizer or all"),
    ],
)
def test_what_cannot_be_offloaded_is_said(settings, message):
    with pytest.raises(ValidationError, match=message):
        Train(**settings)


@pytest.mark.parametrize(
    ("settings", "optimizer", "parameters"),
    [
        ({}, None, None),
        ({"offload": "optimizer"}, CPU, None),
        ({"offload": "all", "zero_stage": 3}, CPU, CPU),
        ({"offload": "optimizer", "zero_stage": 3, "offload_dir": "/fast"}, DISK, None),
        ({"offload": "all", "zero_stage": 3, "offload_dir": "/fast"}, DISK, DISK),
    ],
)
def test_deepspeed_is_told_what_is_offloaded_and_where(settings, optimizer, parameters):
    found = deepspeed_config(
        Train(**settings), precision="bf16", world_size=2, device=torch.device("cuda")
    )["zero_optimization"]
    assert found.get("offload_optimizer") == optimizer
    assert found.get("offload_param") == parameters


def test_where_the_state_lies_does_not_decide_about_the_weights():
    assert Train(offload="optimizer").decisive() == Train().decisive()
