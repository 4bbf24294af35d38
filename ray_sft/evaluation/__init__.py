"""Measuring a model, and writing down what was measured."""

from ray_sft.evaluation.card import model_card
from ray_sft.evaluation.evaluate import evaluate
from ray_sft.evaluation.forgetting import retention

__all__ = ["evaluate", "model_card", "retention"]
