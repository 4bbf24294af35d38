"""Careless casing and punctuation: what stays of a text is what it says."""

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from pydantic import Field

from ray_sft.data.augment.draws import Draws
from ray_sft.data.augment.segments import (
    HAN,
    UNTOUCHABLE,
    is_chinese,
    is_untouchable,
)
from ray_sft.data.augment.word_edits import Edits, WordEdits

__all__ = ["Casing", "SurfaceNoise"]

Casing: TypeAlias = Literal["lower", "upper", "capitalised"]

_HALF = ",.!?;:"
_FULL = "\uff0c\u3002\uff01\uff1f\uff1b\uff1a"
_OTHER_WIDTH = str.maketrans(_HALF + _FULL, _FULL + _HALF)
_PAUSE = "\u3001"
_MARKS = f"[{_HALF}{_FULL}{_PAUSE}]+"
_BEFORE = "\\w)\\]\"'\u2019\u201d\uff09\u300b"
# a mark inside of a number or an abbreviation is part of it, and an emoticon's is part of that
_PUNCTUATION = re.compile(rf"({UNTOUCHABLE})|(?<=[{_BEFORE}])({_MARKS})(?![^\W{HAN}])( *)")
_IS_MARK = re.compile(_MARKS)


class SurfaceNoise(WordEdits):
    """Another casing of the whole text, and marks missing, doubled, of the other width or unspaced.

    In Chinese texts a mark may become its full-width or half-width form. Nothing is put at the end
    of a text but a doubled mark. Where words are tokens with tags, entities are recased too, and
    marks that are tokens of their own stand for punctuation.
    """

    kind: Literal["surface_noise"] = "surface_noise"
    case_rate: float = Field(default=0.5, ge=0, le=1)
    """The chance of a text to be written in another casing."""
    casings: tuple[Casing, ...] = Field(default=("lower", "upper", "capitalised"), min_length=1)
    """Which, with equal chances among those that change it; capitalised: every word's first
    letter."""
    punctuation_rate: float = Field(default=0.2, ge=0, le=1)
    """The chance of each punctuation mark to be changed."""

    def edit(self, text: str, rng: Draws) -> str:
        """See `WordEdits.edit`."""
        text = super().edit(text, rng)
        chinese = is_chinese(text)

        def change(match: re.Match[str]) -> str:
            mark, blanks = match[2], match[3]
            if mark is None or rng.random() >= self.punctuation_rate:
                return match[0]
            if blanks and match.end() < len(text) and rng.random() < 0.25:
                return str(mark)
            return _other_mark(mark, rng, chinese=chinese) + str(blanks)

        return _PUNCTUATION.sub(change, text)

    def edit_words(self, words: Sequence[str], protected: Sequence[bool], rng: Draws) -> Edits:
        """See `WordEdits.edit_words`."""
        recased = self._recase(words, rng)
        chinese = is_chinese("".join(words))
        changed = []
        for index, word in enumerate(recased):
            is_mark = _IS_MARK.fullmatch(word) and not protected[index]
            if is_mark and rng.random() < self.punctuation_rate:
                word = _other_mark(word, rng, chinese=chinese)
            changed.append(word)
        changed = changed if any(changed) else recased
        return {
            index: [other] if other else []
            for index, (word, other) in enumerate(zip(words, changed, strict=True))
            if other != word
        }

    def _recase(self, words: Sequence[str], rng: Draws) -> list[str]:
        """Words in another casing, if the dice say so and there is one."""
        if rng.random() >= self.case_rate:
            return list(words)
        choices = [[_in_casing(word, casing) for word in words] for casing in self.casings]
        choices = [choice for choice in choices if choice != list(words)]
        return rng.choice(choices) if choices else list(words)


def _in_casing(word: str, casing: Casing) -> str:
    if is_untouchable(word):
        return word
    if casing == "capitalised":
        return word[:1].upper() + word[1:]
    return word.lower() if casing == "lower" else word.upper()


def _other_mark(mark: str, rng: Draws, *, chinese: bool) -> str:
    """A mark missing, doubled, or in a Chinese text of the other width."""
    choices = ["", mark + mark[-1]]
    other_width = mark.translate(_OTHER_WIDTH)
    if chinese and other_width != mark:
        choices.append(other_width)
    return rng.choice(choices)
