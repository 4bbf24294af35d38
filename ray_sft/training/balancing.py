"""What the loss of each task counts when several are learned together.

Both techniques weigh by what the step itself has shown, so that all ranks, which see the same
means and gradients, hold the same weights without talking about them. None of it is a parameter of
the engine: whatever the ZeRO stage, the few numbers are whole everywhere, and checkpoints keep
them. Weights are used from the next step on.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from ray_sft.core import Config

__all__ = ["AnyBalancing", "Balancing", "GradNorm", "State", "Uncertainty"]

State: TypeAlias = dict[str, dict[str, float]]
"""What is remembered from step to step, by kind of number and task."""

_LEAST_WEIGHT = 1e-3
"""GradNorm's own steps could bring a weight to zero or below."""


class Balancing(Config, ABC):
    """Weights of tasks that follow the training."""

    needs_gradients: ClassVar[bool] = False
    """Whether `after_step` wants the length of each task's gradient."""

    learning_rate: float = Field(default=0.025, gt=0)
    """Step of the weights' own gradient descent."""

    @abstractmethod
    def start(self, tasks: Sequence[str]) -> State:
        """Before the first step."""

    @abstractmethod
    def weights(self, state: State) -> dict[str, float]:
        """What the mean loss of each task counts in the next step."""

    @abstractmethod
    def after_step(
        self, state: State, losses: Mapping[str, float], gradients: Mapping[str, float]
    ) -> State:
        """What a step has shown; every task was in it.

        Args:
            state: before the step.
            losses: the mean loss of each task, unweighted.
            gradients: the length of the gradient of each of these losses, unweighted.
        """


class Uncertainty(Balancing):
    """Noisy tasks count less: weights follow from a variance that each task learns.

    Kendall et al. 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry
    and Semantics", arXiv:1705.07115, eq. 10: with s = log sigma^2 the loss of a classification is
    exp(-s) L + s / 2. Its gradient by s, 1/2 - exp(-s) L, needs no more than the mean loss; s
    starts at 0 and comes to rest where a task counts 1 / (2 L).
    """

    kind: Literal["uncertainty"] = "uncertainty"

    def start(self, tasks: Sequence[str]) -> State:
        """See `Balancing.start`."""
        return {"log_variance": dict.fromkeys(tasks, 0.0)}

    def weights(self, state: State) -> dict[str, float]:
        """See `Balancing.weights`."""
        return {name: math.exp(-value) for name, value in state["log_variance"].items()}

    def after_step(
        self, state: State, losses: Mapping[str, float], gradients: Mapping[str, float]
    ) -> State:
        """See `Balancing.after_step`."""
        del gradients
        moved = {
            name: value - self.learning_rate * (0.5 - math.exp(-value) * losses[name])
            for name, value in state["log_variance"].items()
        }
        return {"log_variance": moved}


class GradNorm(Balancing):
    """Tasks pull alike: a weighted gradient is as long as the others', more so where a task lags.

    Chen et al. 2018, "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep
    Multitask Networks", arXiv:1711.02257, section 3.1 and algorithm 1: G_i is the length of the
    gradient of w_i L_i at the last shared layer, r_i the ratio L_i / L_i(0) over its mean. Weights
    descend on sum_i |G_i - mean(G) r_i^alpha|, the target being a constant, and are scaled so that
    they add up to the number of tasks. The shared layer's parameter is its bias here: see
    `ray_sft.training.shared_gradients`.
    """

    needs_gradients: ClassVar[bool] = True

    kind: Literal["grad_norm"] = "grad_norm"
    alpha: float = Field(default=1.5, ge=0)
    """How strongly tasks that learn slowly are favoured; 0 makes all gradients equally long."""

    def start(self, tasks: Sequence[str]) -> State:
        """See `Balancing.start`."""
        return {"weight": dict.fromkeys(tasks, 1.0), "first_loss": {}}

    def weights(self, state: State) -> dict[str, float]:
        """See `Balancing.weights`."""
        return state["weight"]

    def after_step(
        self, state: State, losses: Mapping[str, float], gradients: Mapping[str, float]
    ) -> State:
        """See `Balancing.after_step`."""
        first = state["first_loss"] or dict(losses)
        ratios = {name: losses[name] / max(first[name], 1e-12) for name in losses}
        mean_ratio = sum(ratios.values()) / len(ratios)
        lengths = {name: weight * gradients[name] for name, weight in state["weight"].items()}
        mean_length = sum(lengths.values()) / len(lengths)
        moved = {}
        for name, weight in state["weight"].items():
            target = mean_length * (ratios[name] / max(mean_ratio, 1e-12)) ** self.alpha
            slope = math.copysign(gradients[name], lengths[name] - target)
            moved[name] = max(_LEAST_WEIGHT, weight - self.learning_rate * slope)
        scale = len(moved) / sum(moved.values())
        return {
            "weight": {name: weight * scale for name, weight in moved.items()},
            "first_loss": first,
        }


AnyBalancing: TypeAlias = Annotated[Uncertainty | GradNorm, Field(discriminator="kind")]
"""Every way to balance tasks that a recipe may name, by its ``kind``."""
