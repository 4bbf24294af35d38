"""FGM: the loss where a small step in the embedded input hurts most.

Miyato et al. 2017, "Adversarial Training Methods for Semi-Supervised Text Classification",
arXiv:1605.07725. Eq. 5: with the embedded sequence s and g the gradient of the loss at s, the
perturbation is epsilon g / ||g||, the norm taken over the whole sequence. Eq. 6: the loss of the
perturbed sequence, under a perturbation that is a constant, is added to the clean one.

Deviations:

- The paper normalises its embeddings to mean 0 and variance 1 (eq. 1); pretrained ones stay as
  they are, so epsilon is a length in their units. The perturbation is added to the word embeddings
  before positions, norms and dropout.
- A sequence of a packed row has a norm of its own wherever ``position_ids`` tell where it begins.
  Inputs that are no text (patches, frames) have one norm per row.
- All passes of a micro-batch drop the same units. The perturbation is then the worst for the very
  network that it is given to, which is what eq. 5 linearises, and the clean pass is the same with
  and without this objective.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field

from ray_sft.objectives.base import Objective
from ray_sft.objectives.embedded_input import EmbeddedInput, ascended, random_state_restored
from ray_sft.tasks import Loss, LossFn, TensorBatch

__all__ = ["Fgm"]


class Fgm(Objective):
    """Trains against the worst small change of the embedded input.

    Costs two more passes forward, one of them with a walk back to the input.
    """

    kind: Literal["fgm"] = "fgm"
    epsilon: float = Field(default=0.3, ge=0)
    """Length of a sequence's perturbation in units of the embeddings, whose tokens are about 1 long
    in many models; 0 changes nothing. Where it is too long, training never leaves chance."""
    weight: float = Field(default=1.0, ge=0)
    """What the adversarial loss counts beside the clean one; 0 changes nothing."""

    def wrap(self, loss_fn: LossFn, module: torch.nn.Module) -> LossFn:
        """See `Objective.wrap`."""
        if self.epsilon == 0 or self.weight == 0:
            return loss_fn
        embedded = EmbeddedInput(module, kind=self.kind)

        def adversarial(batch: TensorBatch) -> Loss:
            gradients = embedded.gradients(loss_fn, batch)
            with random_state_restored(module):
                clean = loss_fn(batch)
            positions = batch.get("position_ids")
            deltas = ascended(
                (), gradients, positions, step_size=self.epsilon, epsilon=self.epsilon
            )
            with embedded.moved(deltas):
                perturbed = loss_fn(batch)
            loss_sum = clean.loss_sum + self.weight * perturbed.loss_sum
            return replace(clean, loss_sum=loss_sum)

        return adversarial
