"""Focal loss: what the model already gets right counts for less.

Lin et al. 2017, "Focal Loss for Dense Object Detection", arXiv:1708.02002. Eq. 4: with the
probability p_t of the right class, FL(p_t) = -(1 - p_t)^gamma log p_t.

Written as H + ((1 - p_t)^gamma - 1) H it is a term to add to whatever it wraps, H being the
cross-entropy. Its place in the list decides where it counts, as with label smoothing. Without the
class weights alpha_t of eq. 5: rows have ``weight`` in their source.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field

from ray_sft.objectives.base import Objective
from ray_sft.tasks import Loss, LossFn, TensorBatch

__all__ = ["FocalLoss"]


class FocalLoss(Objective):
    """Turns training to the targets that are still hard, as where labels are rare."""

    kind: Literal["focal_loss"] = "focal_loss"
    gamma: float = Field(default=2.0, ge=0)
    """How fast a target counts less as it becomes certain; 0 changes nothing."""

    def wrap(self, loss_fn: LossFn, module: torch.nn.Module) -> LossFn:
        """See `Objective.wrap`."""
        del module
        if self.gamma == 0:
            return loss_fn

        def focal(batch: TensorBatch) -> Loss:
            loss = loss_fn(batch)
            excess = _excess(loss.logits, loss.targets, gamma=self.gamma)
            return replace(loss, loss_sum=loss.loss_sum + excess)

        return focal


def _excess(logits_NC: torch.Tensor, targets_N: torch.Tensor, *, gamma: float) -> torch.Tensor:
    """The sum over targets of ((1 - p)^gamma - 1) H; zero where there are none."""
    log_p_N = logits_NC.log_softmax(dim=1).gather(1, targets_N[:, None]).squeeze(1)
    # by expm1, since 1 - p cancels near certainty; not 0, where a power below one has no slope
    others_N = -torch.expm1(log_p_N).clamp(max=-torch.finfo(log_p_N.dtype).tiny)
    return ((1 - others_N**gamma) * log_p_N).sum()
