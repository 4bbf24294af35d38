"""How well a language model predicts tokens: scores of rows, and figures over them.

Causal and masked language models and translators differ in what they see and in which tokens are
targets; what is measured afterwards is the same.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import BaseModel

from ray_sft.tasks.base import (
    IGNORED,
    Array,
    Batch,
    Example,
    Metrics,
    Outputs,
    Processor,
    Task,
)

__all__ = ["LanguageModelMetrics", "LanguageModelScore", "LanguageModelTask", "score_targets"]


class LanguageModelScore(BaseModel):
    """How well the model predicts the targets of one example."""

    loss_sum: float
    """Negative log-likelihood of the targets in nats."""
    num_targets: int
    num_correct: int
    """Targets whose token is the most probable one."""


def score_targets(logits_BTV: Array, targets_BT: Array) -> Outputs:
    """``loss_sum`` (nats), ``num_targets`` and ``num_correct`` of every row, each (batch,).

    Positions whose target is -100 do not count.
    """
    num_rows = len(targets_BT)
    loss_sums, num_correct = np.zeros(num_rows), np.zeros(num_rows, dtype=np.int64)
    for row, (logits_TV, targets_T) in enumerate(zip(logits_BTV, targets_BT, strict=True)):
        positions = np.flatnonzero(targets_T != IGNORED)
        if not len(positions):
            continue
        chosen_NV, targets_N = logits_TV[positions].astype(np.float64), targets_T[positions]
        top_N = chosen_NV.max(axis=-1)
        log_sum_N = top_N + np.log(np.exp(chosen_NV - top_N[:, None]).sum(axis=-1))
        loss_sums[row] = (log_sum_N - chosen_NV[np.arange(len(positions)), targets_N]).sum()
        num_correct[row] = (chosen_NV.argmax(axis=-1) == targets_N).sum()
    num_targets = (targets_BT != IGNORED).sum(axis=1)
    return {"loss_sum": loss_sums, "num_targets": num_targets, "num_correct": num_correct}


def _decode_scores(outputs: Outputs) -> list[BaseModel]:
    """A `LanguageModelScore` per row of what `score_targets` returned."""
    columns = (outputs[name] for name in ("loss_sum", "num_targets", "num_correct"))
    return [
        LanguageModelScore(
            loss_sum=float(loss_sum), num_targets=int(num_targets), num_correct=int(num_correct)
        )
        for loss_sum, num_targets, num_correct in zip(*columns, strict=True)
    ]


class LanguageModelMetrics(Metrics):
    """Loss per target token in nats, its exponential, and the share of tokens guessed right."""

    def __init__(self) -> None:
        """An empty accumulator."""
        self.loss_sums: list[float] = []
        self.num_targets = 0
        self.num_correct = 0

    def update(self, responses: Sequence[BaseModel], examples: Sequence[Example]) -> None:
        """See `Metrics.update`."""
        assert len(responses) == len(examples)
        for response in responses:
            assert isinstance(response, LanguageModelScore)
            self.loss_sums.append(response.loss_sum)
            self.num_targets += response.num_targets
            self.num_correct += response.num_correct

    def merge(self, other: Self) -> None:
        """See `Metrics.merge`."""
        self.loss_sums += other.loss_sums
        self.num_targets += other.num_targets
        self.num_correct += other.num_correct

    def compute(self) -> dict[str, float]:
        """``loss`` (nats a target), ``perplexity``, ``accuracy``, ``num_targets``, ``num_rows``."""
        total = float(np.sum(np.sort(self.loss_sums)))  # sorted: independent of the order of rows
        loss = total / self.num_targets if self.num_targets else float("nan")
        return {
            "loss": loss,
            "perplexity": float(np.exp(min(loss, 700.0))),
            "accuracy": self.num_correct / self.num_targets if self.num_targets else float("nan"),
            "num_targets": float(self.num_targets),
            "num_rows": float(len(self.loss_sums)),
        }


class LanguageModelTask(Task):
    """A task whose ``labels``, (batch, tokens), are tokens; measured is how well they are told."""

    main_metric: ClassVar[tuple[str, Literal["max", "min"]]] = ("loss", "min")
    Response: ClassVar[type[BaseModel]] = LanguageModelScore

    def without_targets(self, batch: Batch) -> Batch:
        """See `Task.without_targets`."""
        return batch | {"labels": np.full_like(batch["labels"], IGNORED)}

    def decode(
        self, outputs: Outputs, examples: Sequence[Example], processor: Processor
    ) -> list[BaseModel]:
        """A `LanguageModelScore` per example."""
        del processor, examples
        return _decode_scores(outputs)

    def metrics(self) -> Metrics:
        """See `LanguageModelMetrics`."""
        return LanguageModelMetrics()
