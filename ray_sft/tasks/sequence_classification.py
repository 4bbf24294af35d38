"""Sequence classification: one label out of a fixed list for a text."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch

from ray_sft.tasks.base import (
    IGNORED,
    Batch,
    Example,
    Loss,
    Outputs,
    Processor,
    Runner,
    TensorBatch,
)
from ray_sft.tasks.labelled_text import ClassificationRequest, LabelScore, softmax
from ray_sft.tasks.single_label import ClassificationResponse, SingleLabel

__all__ = [
    "ClassificationRequest",
    "ClassificationResponse",
    "LabelScore",
    "SequenceClassification",
]


class SequenceClassification(SingleLabel):
    """One label out of a fixed list for a text."""

    can_mix: ClassVar[bool] = True

    kind: Literal["sequence_classification"] = "sequence_classification"

    def collate(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """``input_ids`` and ``attention_mask`` (batch, tokens), ``labels`` (batch,)."""
        return self.inputs(examples, processor) | {"labels": self.label_numbers(examples)}

    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """Summed cross-entropy over labelled rows."""
        labels_B = batch["labels"]
        outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        logits_BC = outputs.logits.float()
        is_target_B = labels_B != IGNORED
        logits_NC, targets_N = logits_BC[is_target_B], labels_B[is_target_B]
        loss_sum = torch.nn.functional.cross_entropy(logits_NC, targets_N, reduction="sum")
        return Loss(loss_sum, len(targets_N), logits_NC, targets_N)

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """``probabilities`` (batch, labels)."""
        logits = model({name: batch[name] for name in ("input_ids", "attention_mask")})["logits"]
        return {"probabilities": softmax(logits)}
