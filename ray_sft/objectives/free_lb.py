"""FreeLB: the mean loss over the whole way to the worst input, not only where it ends.

Zhu et al. 2020, "FreeLB: Enhanced Adversarial Training for Natural Language Understanding",
arXiv:1909.11764. Algorithm 1: over K ascent steps the parameters' gradients at X + delta_t are
averaged (line 8), while delta_{t+1} = Proj_{||delta|| <= epsilon}(delta_t + alpha g / ||g||_F)
(line 11) goes on. Section 3.3: all steps drop the same units.

Deviations:

- delta_0 is zero instead of drawn from U(-epsilon, epsilon) / sqrt(N) (line 4). The first of the
  averaged losses is then the clean one, and a row's perturbation depends on the row alone.
- The paper takes the step's direction out of the same backward pass as the parameters' gradients,
  which makes it free. Under ZeRO 3 a graph cannot be walked twice, and the backward pass belongs to
  the engine, so each step has a pass of its own.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field

from ray_sft.objectives.base import Objective
from ray_sft.objectives.embedded_input import EmbeddedInput, ascended, random_state_restored
from ray_sft.tasks import Loss, LossFn, TensorBatch

__all__ = ["FreeLb"]


class FreeLb(Objective):
    """Trains on every input that is met on the way to the worst small change.

    Costs for every step two more passes forward, one of them with a walk back to the input, and
    memory for the activations of ``steps + 1`` passes.
    """

    kind: Literal["free_lb"] = "free_lb"
    epsilon: float = Field(default=0.3, ge=0)
    """The longest perturbation of a sequence, in units of the embeddings; 0 changes nothing."""
    step_size: float = Field(default=0.15, ge=0)
    """Length of one step; 0 changes nothing."""
    steps: int = Field(default=2, ge=0, le=16)
    """Steps up the gradient; 0 changes nothing."""

    def wrap(self, loss_fn: LossFn, module: torch.nn.Module) -> LossFn:
        """See `Objective.wrap`."""
        if 0 in (self.epsilon, self.step_size, self.steps):
            return loss_fn
        embedded = EmbeddedInput(module, kind=self.kind)

        def averaged(batch: TensorBatch) -> Loss:
            positions, deltas = batch.get("position_ids"), list[torch.Tensor]()
            losses = []
            for _ in range(self.steps):
                with random_state_restored(module), embedded.moved(deltas):
                    losses.append(loss_fn(batch))
                gradients = embedded.gradients(loss_fn, batch, deltas)
                deltas = ascended(
                    deltas, gradients, positions, step_size=self.step_size, epsilon=self.epsilon
                )
            with embedded.moved(deltas):
                losses.append(loss_fn(batch))
            mean = torch.stack([loss.loss_sum for loss in losses]).mean()
            return replace(losses[0], loss_sum=mean)

        return averaged
