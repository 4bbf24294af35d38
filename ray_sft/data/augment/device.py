"""Where the models of augmentations run."""

import ray
import torch

__all__ = ["device_of_task"]


def device_of_task() -> torch.device:
    """The GPU that Ray has given to this task, or a share of it; the CPU where it gave none."""
    if ray.is_initialized() and ray.get_gpu_ids():
        return torch.device("cuda")
    return torch.device("cpu")
