"""The configuration that DeepSpeed is given; known without importing it, which takes seconds."""

from typing import Any

import torch

from ray_sft.training.config import Train

__all__ = ["deepspeed_config", "resolve_precision"]


def resolve_precision(train: Train, *, device: torch.device) -> str:
    """``fp32`` or ``bf16``; ``auto`` takes bf16 where the device multiplies it in hardware."""
    if train.precision != "auto":
        return train.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"


def deepspeed_config(
    train: Train, *, precision: str, world_size: int, device: torch.device
) -> dict[str, Any]:
    """The configuration given to DeepSpeed, with every default that has ever moved written out.

    Gradients are accumulated by us (``managed_gradient_accumulation``: false): the number of
    micro-batches is ours, and `Engine.step` is called once a step.
    """
    parted = train.tensor_parallel > 1
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": train.gradient_accumulation,
        # left out where ranks share layers: DeepSpeed then counts ranks here and replicas there
        **({} if parted else {"train_batch_size": train.gradient_accumulation * world_size}),
        "managed_gradient_accumulation": False,
        "gradient_clipping": train.max_gradient_norm,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
        "bf16": {"enabled": False},
        "fp16": {"enabled": False},
        "torch_autocast": {"enabled": precision == "bf16", "dtype": "bfloat16"},
        "zero_optimization": {
            "stage": train.zero_stage,
            "overlap_comm": False,
            # copies every gradient to spare a GPU's allocator; costs a CPU several percent
            "contiguous_gradients": device.type == "cuda",
            "reduce_bucket_size": 50_000_000,
            "allgather_bucket_size": 50_000_000,
            "stage3_param_persistence_threshold": 10_000,
            "stage3_gather_16bit_weights_on_model_save": False,
            **_offloaded(train),
        },
        **({"tensor_parallel": {"autotp_size": train.tensor_parallel}} if parted else {}),
        # torch's fused AdamW updates what lies in memory as fast, and needs no compiler
        "zero_force_ds_cpu_optimizer": False,
        "checkpoint": {"tag_validation": "Fail", "load_universal": False},
    }


def _offloaded(train: Train) -> dict[str, Any]:
    place: dict[str, Any] = {"device": "cpu", "pin_memory": True}
    if train.offload_dir:
        place |= {"device": "nvme", "nvme_path": train.offload_dir}
    found: dict[str, Any] = {}
    if train.offload != "none":
        found["offload_optimizer"] = place
    if train.offload == "all":
        found["offload_param"] = place
    return found
