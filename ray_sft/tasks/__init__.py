"""What a model is asked to do: one file per task, all under the contract in `base`.

Example:
    >>> from ray_sft.tasks import SequenceClassification
    >>> SequenceClassification(labels=("bill", "card")).model_options()["num_labels"]
    2
"""

from typing import Annotated, TypeAlias

from pydantic import Field

from ray_sft.tasks.base import (
    IGNORED,
    Array,
    Batch,
    Encoded,
    Example,
    Loss,
    Metrics,
    Outputs,
    Processor,
    Rejected,
    Row,
    Runner,
    Task,
    TensorBatch,
)
from ray_sft.tasks.causal_language_model import CausalLanguageModel
from ray_sft.tasks.sequence_classification import SequenceClassification

__all__ = [
    "IGNORED",
    "AnyTask",
    "Array",
    "Batch",
    "CausalLanguageModel",
    "Encoded",
    "Example",
    "Loss",
    "Metrics",
    "Outputs",
    "Processor",
    "Rejected",
    "Row",
    "Runner",
    "SequenceClassification",
    "Task",
    "TensorBatch",
]

AnyTask: TypeAlias = Annotated[
    SequenceClassification | CausalLanguageModel, Field(discriminator="kind")
]
"""Every task that a recipe may name, by its ``kind``."""
