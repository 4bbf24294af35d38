"""Training a model further without losing what it has learned before."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from ray_sft.core import Config
from ray_sft.objectives import Ewc, LearningWithoutForgetting

__all__ = ["Continual", "Former"]


class Continual(Config):
    """Goes on from a bundle: its labels stay, and forgetting is measured and held down.

    With nothing set it is only measured: plain training on the new rows.
    """

    replay: float = Field(default=0.0, ge=0)
    """Rows of earlier trainings in each epoch, for each new row; drawn anew every epoch. They are
    read from where the earlier recipes found them."""
    ewc: Ewc | None = None
    """Hold the weights that answers to earlier rows depend on; reads some of those rows."""
    learning_without_forgetting: LearningWithoutForgetting | None = None
    """Hold the former model's answers on the new rows; needs no earlier row."""


@dataclass(frozen=True, slots=True)
class Former:
    """What a worker knows of the trainings before, and of the model that they left."""

    settings: Continual
    data_dirs: Mapping[str, tuple[str, ...]]
    """By task, the encoded shards of each earlier training, to be replayed."""
    num_known: Mapping[str, int]
    """By task, how many classes the former model tells apart, the first ones; 0 for all."""
    fisher: str = ""
    """The file with the Fisher information that EWC uses."""
