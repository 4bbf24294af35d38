"""Measuring a model, and writing down what was measured."""

from ray_sft.evaluation.card import markdown_table, model_card
from ray_sft.evaluation.detail import Detail, evaluate_in_detail
from ray_sft.evaluation.evaluate import evaluate
from ray_sft.evaluation.forgetting import retention

__all__ = [
    "Detail",
    "evaluate",
    "evaluate_in_detail",
    "markdown_table",
    "model_card",
    "retention",
]
