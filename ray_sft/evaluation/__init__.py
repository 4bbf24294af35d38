"""Measuring a model, and writing down what was measured."""

from ray_sft.evaluation.card import model_card
from ray_sft.evaluation.evaluate import evaluate

__all__ = ["evaluate", "model_card"]
