"""What a worker is sent: plain values, without the engine that works on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_sft.data import Windows
from ray_sft.models import AnyAdapter
from ray_sft.objectives import AnyObjective, Distillation
from ray_sft.tasks import AnyTask
from ray_sft.training.config import Train
from ray_sft.training.continual import Former

__all__ = ["WEIGHTS", "Job"]

WEIGHTS = "weights"
"""Folder of the last checkpoint that holds the finished model."""


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a worker needs, as plain values."""

    tasks: Mapping[str, AnyTask]
    train: Train
    model: str
    processor: str
    data_dirs: Mapping[str, str]
    """By task, the folder with the encoded shards in ``train`` and ``eval``."""
    threads: int
    log: Any
    """Handle of the actor that gathers records."""
    objectives: tuple[AnyObjective, ...] = ()
    adapter: AnyAdapter | None = None
    teachers: tuple[str, ...] = ()
    """Folders of the models that ``distillation`` follows."""
    distillation: Distillation | None = None
    former: Former | None = None
    """What not to forget; the former model is ``model``."""
    windows: Windows | None = None
    """The rows after those in ``data_dirs``, where they are streamed."""
