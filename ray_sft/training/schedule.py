"""The learning rate as a pure function of the step, so that a resumed run needs no state."""

import math

from ray_sft.training.config import Train

__all__ = ["learning_rate"]


def learning_rate(step: int, *, num_steps: int, train: Train) -> float:
    """The learning rate of optimizer step ``step``, counted from 0.

    It rises linearly over the warm-up, whose last step has the peak, and then falls to zero one
    step after the end.
    """
    warmup_steps = int(train.warmup * num_steps)
    if step < warmup_steps:
        return train.learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    if train.schedule == "constant":
        return train.learning_rate
    if train.schedule == "cosine":
        return train.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
    return train.learning_rate * (1.0 - progress)
