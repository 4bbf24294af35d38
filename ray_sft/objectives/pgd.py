"""PGD: the loss at the worst of several small steps within a ball around the embedded input.

Madry et al. 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks",
arXiv:1706.06083. Eq. 2.1 trains on the worst input of a set S around each example; section 2.1
finds it by projected gradient ascent, x_{t+1} = Proj_{x + S}(x_t + alpha sgn(g)). With an L2 ball
as S, the steepest step of length alpha is alpha g / ||g||.

Deviations, which make it FGM with more steps (`ray_sft.objectives.fgm` says the rest):

- S is an L2 ball of radius epsilon around the whole embedded sequence.
- The ascent starts at the input itself, not at random within the ball, so that a row's
  perturbation depends on nothing but the row.
- The clean loss is trained too.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field

from ray_sft.objectives.base import Objective
from ray_sft.objectives.embedded_input import EmbeddedInput, ascended, random_state_restored
from ray_sft.tasks import Loss, LossFn, TensorBatch

__all__ = ["Pgd"]


class Pgd(Objective):
    """Trains against the worst change of the embedded input that several steps find.

    Costs one more pass forward, and for every step one with a walk back to the input.
    """

    kind: Literal["pgd"] = "pgd"
    epsilon: float = Field(default=0.3, ge=0)
    """The longest perturbation of a sequence, in units of the embeddings; 0 changes nothing."""
    step_size: float = Field(default=0.1, ge=0)
    """Length of one step; 0 changes nothing."""
    steps: int = Field(default=3, ge=0, le=16)
    """Steps up the gradient; 0 changes nothing."""
    weight: float = Field(default=1.0, ge=0)
    """What the adversarial loss counts beside the clean one; 0 changes nothing."""

    def wrap(self, loss_fn: LossFn, module: torch.nn.Module) -> LossFn:
        """See `Objective.wrap`."""
        if 0 in (self.epsilon, self.step_size, self.steps, self.weight):
            return loss_fn
        embedded = EmbeddedInput(module, kind=self.kind)

        def adversarial(batch: TensorBatch) -> Loss:
            positions, deltas = batch.get("position_ids"), list[torch.Tensor]()
            for _ in range(self.steps):
                gradients = embedded.gradients(loss_fn, batch, deltas)
                deltas = ascended(
                    deltas, gradients, positions, step_size=self.step_size, epsilon=self.epsilon
                )
            with random_state_restored(module):
                clean = loss_fn(batch)
            with embedded.moved(deltas):
                perturbed = loss_fn(batch)
            loss_sum = clean.loss_sum + self.weight * perturbed.loss_sum
            return replace(clean, loss_sum=loss_sum)

        return adversarial
