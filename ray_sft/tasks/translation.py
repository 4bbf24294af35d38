"""Translation: an encoder reads a text, a decoder writes it in another language.

The same for whatever else rewrites one text as another. What the decoder sees of the target, one
token behind what it predicts, is made by the model itself, since families begin it differently.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

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
    Outputs,
    Processor,
    Rejected,
    Row,
    Runner,
    TensorBatch,
    pad,
)
from ray_sft.tasks.control_tokens import control_tokens, without_tokens
from ray_sft.tasks.language_model_score import LanguageModelTask, score_targets
from ray_sft.tasks.token_ids import token_ids

__all__ = ["Translation", "TranslationRequest"]


class TranslationRequest(BaseModel):
    """A text, and the translation to score."""

    text: str = Field(min_length=1)
    translation: str = ""


class Translation(LanguageModelTask):
    """One text written as another, learned from pairs: an encoder-decoder in one direction."""

    columns: ClassVar[Mapping[str, str]] = {
        "text": "the text to translate",
        "translation": "its translation; not needed for prediction",
    }
    head: ClassVar[Head] = "seq2seq_lm"
    labels_tokens: ClassVar[bool] = True
    Request: ClassVar[type[BaseModel]] = TranslationRequest

    kind: Literal["translation"] = "translation"
    max_length: int = Field(default=128, ge=8, le=8192)
    """The longest text in tokens, on either side; longer ones are cut at the end and counted."""

    def texts(self, row: Row) -> list[str]:
        """See `Task.texts`: both sides, which share a vocabulary."""
        sides = (row.get("text"), row.get("translation"))
        return [side for side in sides if isinstance(side, str) and side.strip()]

    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """``input_ids`` and, where there is a translation, ``target_ids`` (tokens,).

        Both end with the token that ends a sequence.
        """
        control = control_tokens(processor)
        found = [_sides(row, control) for row in rows]
        pairs = [pair for pair in found if not isinstance(pair, Rejected)]
        sources = iter(token_ids([text for text, _ in pairs], processor, add_special_tokens=True))
        translations = [translation for _, translation in pairs if translation]
        targets = iter(_target_ids(translations, processor))
        return [
            pair
            if isinstance(pair, Rejected)
            else self._example(next(sources), next(targets) if pair[1] else None, processor)
            for pair in found
        ]

    def _example(
        self, source: list[int], target: list[int] | None, processor: Processor
    ) -> Encoded:
        input_ids, truncated = self._ended(source, processor)
        if set(processor.all_special_ids).issuperset(input_ids.tolist()):
            return Rejected("text holds nothing that the tokenizer knows")
        arrays = {"input_ids": input_ids}
        if target is not None:
            arrays["target_ids"], cut = self._ended(target, processor)
            truncated += cut
        length = sum(len(array) for array in arrays.values())
        return Example(arrays, length=length, truncated=truncated)

    def _ended(self, ids: list[int], processor: Processor) -> tuple[Array, int]:
        """The ids with the end of a sequence, and how many were cut off to make them fit."""
        end = processor.eos_token_id
        body = ids[:-1] if ids and ids[-1] == end else ids
        kept = body[: self.max_length - 1]
        return np.asarray([*kept, end], dtype=np.int32), len(body) - len(kept)

    def collate(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """``input_ids``, ``attention_mask`` (batch, tokens), ``labels`` (batch, target tokens)."""
        nothing = np.full(1, IGNORED, dtype=np.int32)
        ids = [example.arrays["input_ids"] for example in examples]
        labels = [example.arrays.get("target_ids", nothing) for example in examples]
        return {
            "input_ids": pad(ids, processor.pad_token_id),
            "attention_mask": pad([np.ones(len(array), dtype=np.int64) for array in ids], 0),
            "labels": pad(labels, IGNORED),
        }

    def num_targets(self, batch: Batch) -> int:
        """The number of tokens of the translations, each with its end."""
        return int((batch["labels"] != IGNORED).sum())

    def has_target(self, example: Example) -> bool:
        """See `Task.has_target`."""
        return "target_ids" in example.arrays

    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """Summed cross-entropy of each token given the text and the translation before it."""
        logits_BTV = model(**batch, use_cache=False).logits
        is_target_BT = batch["labels"] != IGNORED
        logits_NV = logits_BTV[is_target_BT].float()
        targets_N = batch["labels"][is_target_BT]
        loss_sum = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="sum")
        loss_sum = loss_sum + 0.0 * logits_BTV[:, :1, :1].float().sum()  # keeps the graph attached
        return Loss(loss_sum, len(targets_N), logits_NV, targets_N)

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """See `score_targets`."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
        return score_targets(model(inputs)["logits"], batch["labels"])


def _sides(row: Row, control: frozenset[str]) -> tuple[str, str] | Rejected:
    """The text and its translation, which may be empty, as plain text."""
    text, translation = row.get("text"), row.get("translation")
    if not isinstance(text, str) or not text.strip():
        return Rejected("text is missing or empty")
    if translation is None or translation == "":
        return without_tokens(text, control), ""
    if not isinstance(translation, str) or not translation.strip():
        return Rejected("translation is not a text")
    return without_tokens(text, control), without_tokens(translation, control)


def _target_ids(texts: Sequence[str], processor: Processor) -> list[list[int]]:
    """Ids of the other language, for which some families have a vocabulary of their own."""
    if getattr(processor, "backend_tokenizer", None) is not None:
        return token_ids(texts, processor, add_special_tokens=True)
    found: list[list[int]] = (
        processor(text_target=list(texts), verbose=False)["input_ids"] if texts else []
    )
    return found
