"""Ranking: how probable it is that somebody with a history takes to a candidate.

The history's texts and the candidate's are read together (a cross-encoder): start token, the
history from old to new, the candidate, a separator after each. Where all of it is too long, the
oldest texts go first. Every row stands for itself; ordering candidates is up to who asks.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, Field

from ray_sft.tasks.base import (
    IGNORED,
    Array,
    Batch,
    Encoded,
    Example,
    Head,
    Judgement,
    Loss,
    Metrics,
    Outputs,
    Processor,
    Rejected,
    Row,
    Runner,
    Task,
    TensorBatch,
    pad,
)
from ray_sft.tasks.token_ids import edge_ids, token_ids

__all__ = ["Ranking", "RankingRequest", "RankingResponse"]

_LABELS: Mapping[object, int] = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), 1),
    **dict.fromkeys(("0", "0.0", "false", "no"), 0),
}


class RankingRequest(BaseModel):
    """What somebody took to before, oldest first, and what is on offer."""

    history: list[str] = []
    candidate: str = Field(min_length=1)


class RankingResponse(BaseModel):
    """How probable a click, a like or a purchase is, between 0 and 1."""

    score: float


_TAKEN = ("not taken", "taken")


class RankingMetrics(Metrics):
    """Area under the ROC curve, accuracy at one half, and log loss in nats."""

    def __init__(self) -> None:
        """An empty accumulator."""
        self.scores: list[float] = []
        self.targets: list[int] = []

    def update(self, responses: Sequence[BaseModel], examples: Sequence[Example]) -> None:
        """See `Metrics.update`; examples without a label are not counted."""
        for response, example in zip(responses, examples, strict=True):
            assert isinstance(response, RankingResponse)
            target = int(example.arrays.get("labels", IGNORED))
            if target != IGNORED:
                self.scores.append(response.score)
                self.targets.append(target)

    def merge(self, other: Self) -> None:
        """See `Metrics.merge`."""
        self.scores += other.scores
        self.targets += other.targets

    def compute(self) -> dict[str, float]:
        """``auc``, ``accuracy``, ``loss``, ``share_positive`` and ``num_rows``.

        ``auc`` is NaN where all rows have the same label.
        """
        scores, targets = np.asarray(self.scores), np.asarray(self.targets, dtype=np.int64)
        if not len(targets):
            nan = float("nan")
            return {
                "auc": nan,
                "accuracy": nan,
                "loss": nan,
                "share_positive": nan,
                "num_rows": 0.0,
            }
        chances = np.clip(np.where(targets == 1, scores, 1 - scores), 1e-30, None)
        return {
            "auc": _area_under_curve(scores, targets),
            "accuracy": float(((scores > 0.5) == (targets == 1)).mean()),
            "loss": float(-np.sort(np.log(chances)).mean()),
            "share_positive": float(targets.mean()),
            "num_rows": float(len(targets)),
        }


def _area_under_curve(scores: Array, targets: Array) -> float:
    """The chance that a positive scores above a negative (Mann-Whitney U); ties count half."""
    num_positive = int(targets.sum())
    num_negative = len(targets) - num_positive
    if not num_positive or not num_negative:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mean_ranks[inverse][targets == 1].sum())
    return (rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)


class Ranking(Task):
    """The probability of a click, a like or a purchase, given what came before."""

    columns: ClassVar[Mapping[str, str]] = {
        "history": "a list of texts, oldest first; may be empty",
        "candidate": "the text of what is on offer",
        "label": "1 where it was taken, else 0; not needed for prediction",
    }
    head: ClassVar[Head] = "matching"
    main_metric: ClassVar[tuple[str, Literal["max", "min"]]] = ("auc", "max")
    Request: ClassVar[type[BaseModel]] = RankingRequest
    Response: ClassVar[type[BaseModel]] = RankingResponse

    kind: Literal["ranking"] = "ranking"
    max_length: int = Field(default=128, ge=8, le=8192)
    """History and candidate together in tokens; the oldest texts are left out to fit."""
    max_history: int = Field(default=8, ge=0, le=512)
    """How many of the latest texts are read."""

    def texts(self, row: Row) -> list[str]:
        """See `Task.texts`."""
        history = _history(row)
        candidate = row.get("candidate")
        return [*(history or []), candidate] if isinstance(candidate, str) else []

    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """``input_ids`` (tokens,) and, where the row has a label, ``labels`` ()."""
        return [self._encode_row(row, processor) for row in rows]

    def _encode_row(self, row: Row, processor: Processor) -> Encoded:
        history, candidate = _history(row), row.get("candidate")
        if not isinstance(candidate, str) or not candidate.strip():
            return Rejected("candidate is missing or empty")
        if history is None:
            return Rejected("history is no list of texts")
        label = _label(row)
        if label is None:
            return Rejected(f"label '{row['label']}' is neither 0 nor 1")
        texts = [text for text in history if text.strip()]
        read = texts[max(0, len(texts) - self.max_history) :]
        pieces = token_ids([*read, candidate], processor, add_special_tokens=False)
        ids, truncated = self._join(pieces, processor)
        arrays: dict[str, Array] = {"input_ids": np.asarray(ids, dtype=np.int32)}
        if label != IGNORED:
            arrays["labels"] = np.asarray(label, dtype=np.int32)
        return Example(arrays, length=len(ids), truncated=truncated)

    def _join(self, pieces: list[list[int]], processor: Processor) -> tuple[list[int], int]:
        """All pieces that fit, and by how many tokens the candidate alone is too long."""
        start, end = edge_ids(processor)
        candidate = [*pieces[-1][: self.max_length - len(start) - len(end)], *end]
        truncated = len(pieces[-1]) + len(end) - len(candidate)
        room = self.max_length - len(start) - len(candidate)
        kept: list[int] = []
        for piece in reversed(pieces[:-1]):
            if len(kept) + len(piece) + len(end) > room:
                break
            kept = [*piece, *end, *kept]
        return [*start, *kept, *candidate], truncated

    def collate(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """``input_ids`` and ``attention_mask`` (batch, tokens), ``labels`` (batch,)."""
        ids = [example.arrays["input_ids"] for example in examples]
        labels = [int(example.arrays.get("labels", IGNORED)) for example in examples]
        return {
            "input_ids": pad(ids, processor.pad_token_id),
            "attention_mask": pad([np.ones(len(array), dtype=np.int64) for array in ids], 0),
            "labels": np.asarray(labels, dtype=np.int64),
        }

    def num_targets(self, batch: Batch) -> int:
        """The number of labelled rows."""
        return int((batch["labels"] != IGNORED).sum())

    def without_targets(self, batch: Batch) -> Batch:
        """See `Task.without_targets`."""
        return batch | {"labels": np.full_like(batch["labels"], IGNORED)}

    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """Summed binary cross-entropy, as a choice between 0 and the model's one logit."""
        outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        is_target_B = batch["labels"] != IGNORED
        logit_N1 = outputs.logits.float()[is_target_B]
        logits_N2 = torch.cat([torch.zeros_like(logit_N1), logit_N1], dim=-1)
        targets_N = batch["labels"][is_target_B]
        loss_sum = torch.nn.functional.cross_entropy(logits_N2, targets_N, reduction="sum")
        return Loss(loss_sum, len(targets_N), logits_N2, targets_N)

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """``score`` (batch,), the sigmoid of the logit."""
        logits = model({name: batch[name] for name in ("input_ids", "attention_mask")})["logits"]
        return {"score": 1.0 / (1.0 + np.exp(-logits[:, 0].astype(np.float64)))}

    def decode(
        self, outputs: Outputs, examples: Sequence[Example], processor: Processor
    ) -> list[BaseModel]:
        """A `RankingResponse` per example."""
        del processor, examples
        return [RankingResponse(score=float(score)) for score in outputs["score"]]

    def judgements(
        self, responses: Sequence[BaseModel], examples: Sequence[Example], processor: Processor
    ) -> list[Judgement]:
        """See `Task.judgements`; one for each row with a label, taken above a half."""
        found = []
        for response, example in zip(responses, examples, strict=True):
            assert isinstance(response, RankingResponse)
            if "labels" in example.arrays:
                taken = response.score > 0.5
                score = response.score if taken else 1 - response.score
                text = processor.decode(example.arrays["input_ids"], skip_special_tokens=True)
                expected = _TAKEN[int(example.arrays["labels"])]
                found.append(Judgement(expected, _TAKEN[taken], score, text))
        return found

    def metrics(self) -> Metrics:
        """See `RankingMetrics`."""
        return RankingMetrics()


def _history(row: Row) -> list[str] | None:
    """The row's history; a single text stands for a list of one; None where it is neither."""
    history = row.get("history")
    if history is None or history == "":
        return []
    if isinstance(history, str):
        return [history]
    if not isinstance(history, Sequence) or not all(isinstance(text, str) for text in history):
        return None
    return list(history)


def _label(row: Row) -> int | None:
    """0 or 1, -100 where the row has none, None where it is neither."""
    label = row.get("label")
    return IGNORED if label in (None, "") else _LABELS.get(str(label).strip().lower())
