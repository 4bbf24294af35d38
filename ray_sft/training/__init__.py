"""Training on Ray Train with DeepSpeed: settings, loop, engine, launch."""

from ray_sft.training.config import Train
from ray_sft.training.launch import train_model

__all__ = ["Train", "train_model"]
