"""The gradient of each task at the last layer that tasks share.

What leaves the backbone is a scaled and shifted vector for each token. The gradient by the shift,
the bias of that layer, is the sum over tokens of the gradients of what leaves: it is read off by
hooks on activations, whole on every rank and exact, where parameters and their gradients may be
partitioned.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from ray_sft.models import HeadedEncoder

__all__ = ["SharedGradients"]


class SharedGradients:
    """Adds up gradients that pass from the heads to the backbone."""

    def __init__(self, module: HeadedEncoder, tasks: Sequence[str]) -> None:
        """Watches ``module`` from now on; to be asked before an engine has it."""
        self._tasks = list(tasks)
        self._counting: str | None = None
        self._sums: dict[str, torch.Tensor] = {}
        module.backbone.register_forward_hook(self._watch)

    def _watch(self, _module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        hidden_BTD = output.last_hidden_state
        if hidden_BTD.requires_grad:
            hidden_BTD.register_hook(self._add)

    def _add(self, gradient_BTD: torch.Tensor) -> None:
        if self._counting is None:  # an objective looks for the worst input, say
            return
        found_D = gradient_BTD.detach().float().sum(dim=(0, 1))
        self._sums[self._counting] = self._sums.get(self._counting, 0) + found_D

    @contextmanager
    def counting(self, task: str) -> Iterator[None]:
        """Around the backward pass of a micro-batch of ``task``."""
        self._counting = task
        try:
            yield
        finally:
            self._counting = None

    def lengths(self) -> dict[str, float]:
        """By task, the length of the step's gradient; every rank must call it, and starts anew.

        Backward passes have scaled the losses by the number of ranks, as their mean is taken.
        """
        nothing_D = torch.zeros_like(next(iter(self._sums.values())))
        sums_ND = torch.stack([self._sums.get(name, nothing_D) for name in self._tasks])
        dist.all_reduce(sums_ND)
        self._sums = {}
        norms = (sums_ND / dist.get_world_size()).norm(dim=1).tolist()
        return dict(zip(self._tasks, norms, strict=True))
