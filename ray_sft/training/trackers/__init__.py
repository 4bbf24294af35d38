"""Who follows a training beside the run's own files; one file per service, under `base`."""

from typing import Annotated, TypeAlias

from pydantic import Field

from ray_sft.training.trackers.base import Followers, Following, TrackedRun, Tracker
from ray_sft.training.trackers.mlflow import Mlflow
from ray_sft.training.trackers.tensorboard import Tensorboard
from ray_sft.training.trackers.wandb import Wandb

__all__ = [
    "AnyTracker",
    "Followers",
    "Following",
    "Mlflow",
    "Tensorboard",
    "TrackedRun",
    "Tracker",
    "Wandb",
]

AnyTracker: TypeAlias = Annotated[Wandb | Mlflow, Field(discriminator="kind")]
"""Every tracker that a recipe may name, by its ``kind``; TensorBoard's files are always written."""
