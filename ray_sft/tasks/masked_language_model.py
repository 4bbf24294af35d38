"""Masked language modelling: an encoder learns a text by guessing tokens that are hidden from it.

Devlin et al. 2019, arXiv:1810.04805, section 3.1: 15 % of the tokens are targets; of these 80 %
become the mask token, 10 % another token at random and 10 % stay as they are. Training draws
anew in every epoch; evaluation hides the same tokens each time, chosen by the text itself.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, Field

from ray_sft.core import DataError
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
from ray_sft.tasks.language_model_score import LanguageModelTask, score_targets
from ray_sft.tasks.token_ids import token_ids

__all__ = ["MaskedLanguageModel", "TextRequest"]

_MASKED, _REPLACED = 0.8, 0.1


class TextRequest(BaseModel):
    """A text to score."""

    text: str = Field(min_length=1)


class MaskedLanguageModel(LanguageModelTask):
    """Guessing hidden tokens of running text, to adapt an encoder to a domain or a language."""

    columns: ClassVar[Mapping[str, str]] = {"text": "running text"}
    head: ClassVar[Head] = "masked_lm"
    labels_tokens: ClassVar[bool] = True
    Request: ClassVar[type[BaseModel]] = TextRequest

    kind: Literal["masked_language_model"] = "masked_language_model"
    max_length: int = Field(default=128, ge=8, le=8192)
    """The longest example in tokens; longer texts are cut at the end and counted."""
    mask_rate: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Share of a text's tokens that are targets; one at least."""
    whole_words: bool = False
    """Hide the tokens of a word together, which is harder to guess; of the last word chosen maybe
    a part, so that the number of targets is always the same."""

    def encode(self, rows: Sequence[Row], processor: Processor) -> list[Encoded]:
        """``input_ids`` and ``labels`` (tokens,); ``labels`` are -100 but at hidden tokens.

        With `whole_words` also ``words`` (tokens,), the number of each token's word.

        Raises:
            DataError: `whole_words` with a tokenizer that cannot tell words apart.
        """
        texts = [row.get("text") for row in rows]
        usable = [text for text in texts if isinstance(text, str) and text.strip()]
        encoded = iter(token_ids(usable, processor, add_special_tokens=True))
        words = iter(_words(usable, processor) if self.whole_words else [None] * len(usable))
        return [
            self._example(next(encoded), next(words), processor)
            if isinstance(text, str) and text.strip()
            else Rejected("text is missing or empty")
            for text in texts
        ]

    def _example(self, ids: list[int], words: Array | None, processor: Processor) -> Encoded:
        truncated = max(0, len(ids) - self.max_length)
        if truncated:
            ids = [*ids[: self.max_length - 1], ids[-1]]
            words = None if words is None else words[: self.max_length]
        array = np.asarray(ids, dtype=np.int32)
        digest = hashlib.sha256(array.tobytes()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        arrays = self._hide(array, words, processor, rng)
        if arrays is None:
            return Rejected("text holds nothing that the tokenizer knows")
        return Example(arrays, length=len(array), truncated=truncated)

    def resample(self, example: Example, processor: Processor, rng: np.random.Generator) -> Example:
        """See `Task.resample`: other tokens are hidden, as many as before."""
        labels, seen = example.arrays["labels"], example.arrays["input_ids"]
        whole = np.where(labels == IGNORED, seen, labels)
        arrays = self._hide(whole, example.arrays.get("words"), processor, rng)
        assert arrays is not None, "an example has a token that can be hidden"
        return Example(arrays, example.length, example.truncated)

    def tokens_in(self, example: Example) -> Array:
        """See `Task.tokens_in`; what is hidden, not what stands in its place."""
        labels = example.arrays["labels"]
        return np.where(labels == IGNORED, example.arrays["input_ids"], labels)

    def _hide(
        self, ids: Array, words: Array | None, processor: Processor, rng: np.random.Generator
    ) -> dict[str, Array] | None:
        """Inputs and labels of a whole text; None where no token can be hidden."""
        candidates = np.flatnonzero(~np.isin(ids, processor.all_special_ids))
        if not len(candidates):
            return None
        num_targets = max(1, round(self.mask_rate * len(candidates)))
        if words is None:
            chosen = rng.choice(candidates, num_targets, replace=False)
        else:  # all tokens of one word after another
            ranks = rng.permutation(len(ids))[words[candidates]]
            chosen = candidates[np.argsort(ranks, kind="stable")][:num_targets]
        draws = rng.random(num_targets)
        others = rng.integers(len(processor), size=num_targets)
        masked = np.where(draws < _MASKED, processor.mask_token_id, ids[chosen])
        replaced = (draws >= _MASKED) & (draws < _MASKED + _REPLACED)
        input_ids, labels = ids.copy(), np.full_like(ids, IGNORED)
        input_ids[chosen] = np.where(replaced, others, masked)
        labels[chosen] = ids[chosen]
        kept = {} if words is None else {"words": words}
        return {"input_ids": input_ids, "labels": labels, **kept}

    def collate(self, examples: Sequence[Example], processor: Processor) -> Batch:
        """``input_ids``, ``attention_mask``, ``labels`` (batch, tokens), padded on the right."""
        ids = [example.arrays["input_ids"] for example in examples]
        return {
            "input_ids": pad(ids, processor.pad_token_id),
            "attention_mask": pad([np.ones(len(array), dtype=np.int64) for array in ids], 0),
            "labels": pad([example.arrays["labels"] for example in examples], IGNORED),
        }

    def num_targets(self, batch: Batch) -> int:
        """The number of hidden tokens."""
        return int((batch["labels"] != IGNORED).sum())

    def loss(self, model: torch.nn.Module, batch: TensorBatch) -> Loss:
        """Summed cross-entropy of the hidden tokens."""
        logits_BTV = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).logits
        is_target_BT = batch["labels"] != IGNORED
        logits_NV = logits_BTV[is_target_BT].float()
        targets_N = batch["labels"][is_target_BT]
        loss_sum = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="sum")
        return Loss(loss_sum, len(targets_N), logits_NV, targets_N)

    def predict(self, model: Runner, batch: Batch) -> Outputs:
        """See `score_targets`."""
        logits = model({name: batch[name] for name in ("input_ids", "attention_mask")})["logits"]
        return score_targets(logits, batch["labels"])


def _words(texts: Sequence[str], processor: Processor) -> list[Array]:
    """The number of the word of each token, from 0; special tokens have 0 too.

    Raises:
        DataError: the tokenizer cannot tell words apart.
    """
    if not processor.is_fast:
        raise DataError(
            f"{type(processor).__name__} does not tell words apart. Set whole_words: false."
        )
    if not texts:
        return []
    encodings = processor(list(texts), verbose=False).encodings
    return [
        np.asarray([0 if word is None else word for word in one.word_ids], dtype=np.int32)
        for one in encodings
    ]
