"""A stretch of a text left out, so that no single part of it decides alone."""

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ray_sft.data.augment.segments import is_untouchable, words_of
from ray_sft.data.augment.word_edits import Edited, WordEdits

__all__ = ["Cutoff"]


class Cutoff(WordEdits):
    """Words left out: a stretch of them, or single ones (Shen et al. 2020, arXiv:2009.13818).

    Where we deviate: words go before the tokenizer sees them, instead of their embeddings becoming
    zero. A character of Chinese counts as a word. Words of entities, addresses and the last word
    that is left stay.
    """

    kind: Literal["cutoff"] = "cutoff"
    rate: float = Field(default=0.15, ge=0, le=1)
    """Share of the words that are left out, one at least; 0 for none."""
    form: Literal["span", "token"] = "span"
    """``span``: words that follow each other; ``token``: words from anywhere."""

    words: ClassVar[re.Pattern[str]] = words_of(())

    def edit_words(
        self, words: Sequence[str], protected: Sequence[bool], rng: np.random.Generator
    ) -> Edited:
        """See `WordEdits.edit_words`."""
        count = min(max(1, round(self.rate * len(words))), len(words) - 1) if self.rate else 0
        if count < 1:
            return list(enumerate(words))
        if self.form == "span":
            start = int(rng.integers(len(words) - count + 1))
            chosen = set(range(start, start + count))
        else:
            chosen = set(rng.choice(len(words), size=count, replace=False).tolist())
        return [
            (index, word)
            for index, word in enumerate(words)
            if index not in chosen or protected[index] or is_untouchable(word)
        ]
