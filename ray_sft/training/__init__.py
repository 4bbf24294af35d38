"""Training on Ray Train with DeepSpeed: settings, loop, engine, launch."""

from ray_sft.training.best import compared_figure
from ray_sft.training.config import Train
from ray_sft.training.continual import Continual, Former
from ray_sft.training.importance import save_fisher
from ray_sft.training.launch import train_model
from ray_sft.training.search_space import Tune
from ray_sft.training.trackers import AnyTracker

__all__ = [
    "AnyTracker",
    "Continual",
    "Former",
    "Train",
    "Tune",
    "compared_figure",
    "save_fisher",
    "train_model",
]
