"""Embeddings: texts as vectors of length 1, near each other where they mean the same.

Trained by contrast: a row's positive must be nearer to its text than the row's own negatives.
Negatives of other rows are not used: the loss of a row would depend on its batch, and the
gradient of a step on how it was cut. What costs in training quality is gained in exactness;
give hard negatives (the data stage can mine them) rather than many.
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
from ray_sft.tasks.token_ids import token_ids

__all__ = ["Embedding", "EmbeddingRequest", "EmbeddingResponse"]


class EmbeddingRequest(BaseModel):
    """A text to embed."""

    text: str = Field(min_length=1)


class EmbeddingResponse(BaseModel):
    """The text as a vector, and how a labelled row's candidates compare."""

    embedding: list[float]
    """Length 1."""
    loss: float | None = None
    """Negative log-probability of the positive among the row's candidates, in nats."""
    rank: int | None = None
    """The positive's place among the candidates by similarity, 1 for the nearest."""


class EmbeddingMetrics(Metrics):
    """How often the positive is nearest, its mean reciprocal rank, and the loss in nats."""

    def __init__(self) -> None:
        """An empty accumulator."""
        self.losses: list[float] = []
        self.ranks: list[int] = []

    def update(self, responses: Sequence[BaseModel], examples: Sequence[Example]) -> None:
        """See `Metrics.update`; examples without candidates are not counted."""
        assert len(responses) == len(examples)
        for response in responses:
            assert isinstance(response, EmbeddingResponse)
            if response.loss is not None and response.rank is not None:
                self.losses.append(response.loss)
                self.ranks.append(response.rank)

    def merge(self, other: Self) -> None:
        """See `Metrics.merge`."""
        self.losses += other.losses
        self.ranks += other.ranks

    def compute(self) -> dict[str, float]:
        """``accuracy``, ``mrr``, ``loss`` and ``num_rows``."""
        if not self.ranks:
            nan = float("nan")
            return {"accuracy": nan, "mrr": nan, "loss": nan, "num_rows": 0.0}
        ranks = np.sort(np.asarray(self.ranks))
        return {
            "accuracy": float((ranks == 1).mean()),
            "mrr": float((1.0 / ranks).mean()),
            "loss": float(np.sort(self.losses).mean()),
            "num_rows": float(len(ranks)),
        }


class Embedding(Task):
    """Texts as vectors: the mean over the encoder's tokens, scaled to length 1."""

    columns: ClassVar[Mapping[str, str]] = {
        "text": "the text to embed",
        "positive": "a text that belongs to it; not needed for prediction",
        "negatives": "a text, or a list of texts, that do not; not needed for prediction",
    }
    head: ClassVar[Head] = "embedding"
    main_metric: ClassVar[tuple[str, Literal["max", "min"]]] = ("accuracy", "max")
    Request: ClassVar[type[BaseModel]] = EmbeddingRequest
    Response: ClassVar[type[BaseModel]] = EmbeddingResponse

    kind: Literal["embedding"] = "embedding"
    max_length: int = Field(default=256, ge=4, le=8192)
    """The longest text in tokens; training and evaluation cut longer ones and count them."""
    temperature: float = Field(default=0.05, gt=0)
    """Similarities are divided by it before the softmax over a row's candidates."""

    def texts(self, row: Row) -> list[str]:
        """See `Task.texts`."""
        return [*super().texts(row), *_candidates(row)]

    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """``input_ids`` (tokens,); with candidates ``pair_ids``, all behind each other.

        ``pair_lengths`` (candidates,) says where each ends; the positive is the first.
        """
        return [self._encode_row(row, processor) for row in rows]

    def _encode_row(self, row: Row, processor: Processor) -> Encoded:
        text = row.get("text")
        if not isinstance(text, str) or not text.strip():
            return Rejected("text is missing or empty")
        candidates = _candidates(row)
        encoded = token_ids([text, *candidates], processor, add_special_tokens=True)
        cut = [self._cut(ids) for ids in encoded]
        if set(processor.all_special_ids).issuperset(cut[0]):
            return Rejected("text holds nothing that the tokenizer knows")
        arrays: dict[str, Array] = {"input_ids": np.asarray(cut[0], dtype=np.int32)}
        if candidates:
            joined = [token for ids in cut[1:] for token in ids]
            arrays["pair_ids"] = np.asarray(joined, dtype=np.int32)
            arrays["pair_lengths"] = np.asarray([len(ids) for ids in cut[1:]], dtype=np.int32)
        truncated = sum(map(len, encoded)) - sum(map(len, cut))
        return Example(arrays, length=sum(map(len, cut)), truncated=truncated)

    def tokens_in(self, example: Example) -> Array:
        """See `Task.tokens_in`; those of candidates, too."""
        pairs = example.arrays.get("pair_ids", np.empty(0, dtype=np.int32))
        return np.concatenate([example.arrays["input_ids"], pairs])

    def _cut(self, ids: list[int]) -> list[int]:
        """The first tokens, and the special one at the end."""
        return ids if len(ids) <= self.max_length else [*ids[: self.max_length - 1], ids[-1]]

    def collate(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """``input_ids`` and ``attention_mask`` (batch, tokens), and the candidates of the rows.

        ``pair_ids`` and ``pair_mask`` are (batch, candidates, tokens), ``num_pairs`` (batch,);
        ``labels`` (batch,) is 0, the place of the positive, or -100 without candidates.
        """
        ids = [example.arrays["input_ids"] for example in examples]
        pairs = [_split(example) for example in examples]
        most = max((len(candidates) for candidates in pairs), default=0)
        # a candidate that is not there is one token long: attention over nothing is not a number
        absent = np.asarray([processor.pad_token_id], dtype=np.int32)
        filled = [[*candidates, *[absent] * (most - len(candidates))] for candidates in pairs]
        flat = [array for candidates in filled for array in candidates]
        shape = (len(examples), most, -1 if flat else 0)
        ones = [np.ones(len(array), dtype=np.int64) for array in flat]
        return {
            "input_ids": pad(ids, processor.pad_token_id),
            "attention_mask": pad([np.ones(len(array), dtype=np.int64) for array in ids], 0),
            "pair_ids": pad(flat, processor.pad_token_id).reshape(shape),
            "pair_mask": pad(ones, 0).reshape(shape),
            "num_pairs": np.asarray([len(candidates) for candidates in pairs], dtype=np.int64),
            "labels": np.asarray([0 if p else IGNORED for p in pairs], dtype=np.int64),
        }

    def num_targets(self, batch: Batch) -> int:
        """The number of rows with candidates."""
        return int((batch["labels"] != IGNORED).sum())

    def has_target(self, example: Example) -> bool:
        """See `Task.has_target`; the target is the positive."""
        return bool(_split(example))

    def without_targets(self, batch: Batch) -> Batch:
        """See `Task.without_targets`."""
        return batch | {"labels": np.full_like(batch["labels"], IGNORED)}

    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """Summed cross-entropy of the positive among a row's candidates; one forward pass."""
        num_rows, num_pairs, _ = batch["pair_ids"].shape
        width = max(batch["input_ids"].shape[1], batch["pair_ids"].shape[2])
        every = [("input_ids", "pair_ids"), ("attention_mask", "pair_mask")]
        inputs = {
            name: torch.cat([_widen(batch[name], width), _widen(batch[pair].flatten(0, 1), width)])
            for name, pair in every
        }
        vectors = model(**inputs).logits.float()
        text_BD, pair_BKD = (
            vectors[:num_rows],
            vectors[num_rows:].unflatten(0, (num_rows, num_pairs)),
        )
        logits_BK = torch.einsum("bd,bkd->bk", text_BD, pair_BKD) / self.temperature
        places_K = torch.arange(num_pairs, device=logits_BK.device)
        logits_BK = logits_BK.masked_fill(places_K >= batch["num_pairs"][:, None], -1e9)
        is_target_B = batch["labels"] != IGNORED
        logits_NK, targets_N = logits_BK[is_target_B], batch["labels"][is_target_B]
        loss_sum = torch.nn.functional.cross_entropy(logits_NK, targets_N, reduction="sum")
        return Loss(loss_sum, len(targets_N), logits_NK, targets_N)

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """``embedding`` (batch, dim), and for rows with candidates ``loss`` and ``rank``."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        text_BD = model(inputs)["logits"]
        num_rows, num_pairs, width = batch["pair_ids"].shape
        loss_B, rank_B = np.full(num_rows, np.nan), np.zeros(num_rows, dtype=np.int64)
        if num_pairs:
            pairs = {
                name: batch[pair].reshape(num_rows * num_pairs, width)
                for name, pair in (("input_ids", "pair_ids"), ("attention_mask", "pair_mask"))
            }
            pair_BKD = model(pairs)["logits"].reshape(num_rows, num_pairs, -1)
            logits_BK = np.einsum("bd,bkd->bk", text_BD, pair_BKD).astype(np.float64)
            logits_BK /= self.temperature
            for row, count in enumerate(batch["num_pairs"]):
                if count:
                    logits = logits_BK[row, :count]
                    loss_B[row] = (
                        np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[0]
                    )
                    rank_B[row] = 1 + int((logits[1:] >= logits[0]).sum())
        return {"embedding": text_BD, "loss": loss_B, "rank": rank_B}

    def decode(
        self, outputs: Outputs, examples: Sequence[Example], processor: Processor
    ) -> list[BaseModel]:
        """An `EmbeddingResponse` per example."""
        del processor, examples
        return [
            EmbeddingResponse(
                embedding=vector.tolist(),
                loss=float(loss) if rank else None,
                rank=int(rank) if rank else None,
            )
            for vector, loss, rank in zip(
                outputs["embedding"], outputs["loss"], outputs["rank"], strict=True
            )
        ]

    def metrics(self) -> Metrics:
        """See `EmbeddingMetrics`."""
        return EmbeddingMetrics()


def _candidates(row: Row) -> list[str]:
    """The positive and the negatives of a row; none where either is missing."""
    positive, negatives = row.get("positive"), row.get("negatives")
    given = [negatives] if isinstance(negatives, str) else negatives
    if not isinstance(positive, str) or not positive.strip() or not isinstance(given, Sequence):
        return []
    others = [text for text in given if isinstance(text, str) and text.strip()]
    return [positive, *others] if others else []


def _split(example: Example) -> list[Array]:
    """The candidates' ids one by one."""
    if "pair_ids" not in example.arrays or example.arrays["pair_ids"] is None:
        return []
    ends = np.cumsum(example.arrays["pair_lengths"])[:-1]
    return list(np.split(example.arrays["pair_ids"], ends))


def _widen(tensor: torch.Tensor, width: int) -> torch.Tensor:
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]))
