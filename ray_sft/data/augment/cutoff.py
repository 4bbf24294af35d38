"""A stretch of a text left out, so that no single part of it decides alone."""

import re
from collections.abc import Sequence
from itertools import islice
from typing import ClassVar, Literal

from pydantic import Field

from ray_sft.data.augment.draws import Draws
from ray_sft.data.augment.segments import is_untouchable, words_of
from ray_sft.data.augment.word_edits import Edits, WordEdits

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

    def edit_words(self, words: Sequence[str], protected: Sequence[bool], rng: Draws) -> Edits:
        """See `WordEdits.edit_words`."""
        count = min(max(1, round(self.rate * len(words))), len(words) - 1) if self.rate else 0
        if count < 1:
            return {}
        if self.form == "span":
            start = rng.below(len(words) - count + 1)
            chosen = set(range(start, start + count))
        else:
            chosen = set(islice(rng.order(len(words)), count))
        free = (i for i in chosen if not protected[i] and not is_untouchable(words[i]))
        return dict.fromkeys(free, ())
