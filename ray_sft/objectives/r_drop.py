"""R-Drop: two passes with different dropout must agree.

Liang et al. 2021, "R-Drop: Regularized Dropout for Neural Networks", arXiv:2106.14448. With the
distributions p and q that two passes predict for a target, eq. 2 is the symmetric divergence
L_KL = (KL(p || q) + KL(q || p)) / 2, and eq. 4 the loss L_NLL(p) + L_NLL(q) + alpha L_KL. In logits
z the normalisers cancel: L_KL = sum_k (p_k - q_k) (z_p,k - z_q,k) / 2. Gradients flow into both.

Deviations:

- The loss of a pass keeps its scale, so that a learning rate keeps its meaning: we take
  (L_NLL(p) + L_NLL(q)) / 2 + alpha L_KL, as the usage in the authors' repository does. That is half
  of eq. 4 with an alpha of twice ours.
- The paper repeats the batch within one pass. We run two, because nothing is then assumed about
  the batch; targets, batch statistics and FGM see what they always see.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field

from ray_sft.core import ConfigError
from ray_sft.objectives.base import Objective
from ray_sft.tasks import Loss, LossFn, TensorBatch

__all__ = ["RDrop"]


class RDrop(Objective):
    """Makes the model's answers agree under different dropout; costs a second pass."""

    kind: Literal["r_drop"] = "r_drop"
    alpha: float = Field(default=1.0, ge=0)
    """Weight of the divergence between the two passes; 0 changes nothing, and runs one pass."""

    def wrap(self, loss_fn: LossFn, module: torch.nn.Module) -> LossFn:
        """See `Objective.wrap`."""
        if self.alpha == 0:
            return loss_fn
        if not any(_drops(part) for part in module.modules()):
            raise ConfigError(
                f"objective 'r_drop' compares two passes with different dropout, but "
                f"{type(module).__name__} has no dropout: both would be the same. Set a dropout "
                "in the model's configuration, or remove r_drop."
            )

        def agreeing(batch: TensorBatch) -> Loss:
            first, second = loss_fn(batch), loss_fn(batch)
            divergence = _symmetric_divergence(first.logits, second.logits)
            loss_sum = 0.5 * (first.loss_sum + second.loss_sum) + self.alpha * divergence
            return replace(first, loss_sum=loss_sum)

        return agreeing


def _symmetric_divergence(first_NC: torch.Tensor, second_NC: torch.Tensor) -> torch.Tensor:
    """The sum over targets of (KL(p || q) + KL(q || p)) / 2, in nats."""
    difference_NC = first_NC.softmax(dim=1) - second_NC.softmax(dim=1)
    return 0.5 * (difference_NC * (first_NC - second_NC)).sum()


def _drops(module: torch.nn.Module) -> bool:
    """Whether a module drops anything, itself or by a rate that it gives to a function."""
    if isinstance(module, torch.nn.modules.dropout._DropoutNd):
        return module.p > 0
    return any(
        "drop" in name and isinstance(rate, float) and rate > 0
        for name, rate in vars(module).items()
    )
