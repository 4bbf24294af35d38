"""Label smoothing: a share of every target is spread evenly over all classes.

Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision",
arXiv:1512.00567, section 7: with u(k) = 1/K the loss is (1 - epsilon) H(q, p) + epsilon H(u, p).

Written as H(q, p) + epsilon (H(u, p) - H(q, p)) it is a term to add to whatever it wraps. In logits
z the normalisers cancel, and the term of a target y is epsilon (z_y - mean_k z_k): no softmax.
So its place in the list decides what is smoothed. Listed first, it is part of the task's loss in
every pass that others make: both of R-Drop, the adversarial one of FGM and the gradient that finds
it. Listed last, only the first clean pass is smoothed. The paper has one pass; list it first.

Deviation: u is uniform over the classes that a target can have. Where rows offer fewer candidates
than the widest row of their batch, the others are masked by a logit of -1e9 and get no share.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field

from ray_sft.objectives.base import Objective
from ray_sft.tasks import Loss, LossFn, TensorBatch

__all__ = ["LabelSmoothing"]

_MASKED = -1e8
"""Logits below are no scores: the class does not exist for this target."""


class LabelSmoothing(Objective):
    """Keeps the model from certainty: targets are no longer worth a probability of one."""

    kind: Literal["label_smoothing"] = "label_smoothing"
    epsilon: float = Field(default=0.1, ge=0, lt=1)
    """Share of a target's weight that all classes get evenly; 0 changes nothing."""

    def wrap(self, loss_fn: LossFn, module: torch.nn.Module) -> LossFn:
        """See `Objective.wrap`."""
        del module
        if self.epsilon == 0:
            return loss_fn

        def smoothed(batch: TensorBatch) -> Loss:
            loss = loss_fn(batch)
            excess = _uniform_excess(loss.logits, loss.targets)
            return replace(loss, loss_sum=loss.loss_sum + self.epsilon * excess)

        return smoothed


def _uniform_excess(logits_NC: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
    """The sum over targets of H(u, p) - H(q, p); zero where there are none."""
    chosen_N = logits_NC.gather(1, targets_N[:, None]).squeeze(1)
    exists_NC = logits_NC > _MASKED
    means_N = logits_NC.where(exists_NC, 0.0).sum(dim=1) / exists_NC.sum(dim=1)
    return (chosen_N - means_N).sum()
