"""The contract of an objective: middleware on the loss.

An objective takes the function that computes the loss of a micro-batch and returns one that
computes more: it may call the inner one several times, change what the model sees, or add a term.
It knows neither ranks nor DeepSpeed. Every member keeps these laws:

- Terms are summed over targets, and anything it normalises is normalised within a sequence, so the
  gradient of a step does not depend on how the step is cut into micro-batches.
- The number of passes depends on its fields alone, never on the data: ranks that own parts of the
  parameters meet in every pass. Without targets all of its terms are zero.
- ``num_targets``, ``logits`` and ``targets`` are those of the first pass that trains, which is a
  clean one but for objectives that have none.
- Where its weight is zero it is the inner function itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, TypeVar

import torch

from ray_sft.core import Config
from ray_sft.tasks import LossFn

__all__ = ["Objective", "each_kind_once", "wrap_all"]


class Objective(Config, ABC):
    """A change of the loss. Subclasses are frozen values; fields are what YAML may set."""

    has_clean_pass: ClassVar[bool] = True
    """Whether one of the passes runs the model as it is, on the batch as it is."""

    kind: str

    @abstractmethod
    def wrap(self, loss_fn: LossFn, module: torch.nn.Module) -> LossFn:
        """``loss_fn`` with this objective around it.

        Args:
            loss_fn: the loss of a micro-batch; runs the model under whatever engine trains it.
            module: the model without that engine, for hooks; its parameters may be partitioned.

        Raises:
            ConfigError: the model has nothing that the objective could work on.
        """


AnyKind = TypeVar("AnyKind", bound=Objective)


def each_kind_once(objectives: tuple[AnyKind, ...]) -> tuple[AnyKind, ...]:
    """``objectives``, of which no two are of one kind; ValueError otherwise."""
    kinds = [objective.kind for objective in objectives]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands twice. List each kind of objective once.")
    return objectives


def wrap_all(objectives: Sequence[Objective], loss_fn: LossFn, module: torch.nn.Module) -> LossFn:
    """``loss_fn`` inside all of ``objectives``, of which the first is the innermost."""
    for objective in objectives:
        loss_fn = objective.wrap(loss_fn, module)
    return loss_fn
