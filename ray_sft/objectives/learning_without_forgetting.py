"""Learning without forgetting: on new rows, the earlier answers stay what they were.

Li and Hoiem 2017, "Learning without Forgetting", arXiv:1606.09282, eqs. 2 to 4: the answers y_o of
the model before are noted for the new rows; the loss is lambda_o L_old(y_o, y'_o) + L_new, where
L_old = - sum_i y_o^(i) log y'_o^(i) over the classes that the model knew, of both distributions
taken to the power 1/T and normalised anew (T = 2): logits divided by T.

We take KL(y_o || y'_o): it differs from the cross-entropy by a constant, and is 0 where both agree.

Deviations: the former model runs beside the new one, in evaluation mode, instead of its answers
being noted, so that augmented and re-drawn rows have theirs too; and the paper's warm-up of the new
head alone is left out.

It is no `Objective` that a recipe may list, since it needs the former model.
"""

from dataclasses import replace

import torch
from pydantic import Field

from ray_sft.core import Config
from ray_sft.objectives.distillation import tempered_divergence
from ray_sft.tasks import Loss, LossFn, TensorBatch

__all__ = ["LearningWithoutForgetting"]


class LearningWithoutForgetting(Config):
    """Keeps the answers of the model that a training starts from."""

    weight: float = Field(default=1.0, ge=0)
    """What the former answers count beside the labels of the new rows; 0 changes nothing."""
    temperature: float = Field(default=2.0, gt=0)
    """Logits are divided by it: a higher one shows more of the less likely classes."""

    def wrap(self, loss_fn: LossFn, *, former_loss_fn: LossFn, num_known: int) -> LossFn:
        """``loss_fn`` and the divergence from the former answers, summed over targets.

        Args:
            loss_fn: runs the model under whatever engine trains it.
            former_loss_fn: the same loss of the former model, which is run without gradients.
            num_known: how many classes, the first ones, the former model knew; 0 for all.
        """
        if self.weight == 0:
            return loss_fn

        def kept(batch: TensorBatch) -> Loss:
            with torch.no_grad():
                former = former_loss_fn(batch)
            loss = loss_fn(batch)
            known = slice(num_known or None)
            divergence = tempered_divergence(
                former.logits[:, known], loss.logits[:, known], temperature=self.temperature
            )
            return replace(loss, loss_sum=loss.loss_sum + self.weight * divergence)

        return kept
