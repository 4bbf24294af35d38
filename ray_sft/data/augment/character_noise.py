"""Slips of the keyboard and of text recognition, letter by letter."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from pydantic import Field

from ray_sft.data.augment.look_alikes import KEYBOARD, OCR, SHAPES, homophones
from ray_sft.data.augment.segments import is_han, is_untouchable
from ray_sft.data.augment.word_edits import Edited, WordEdits

__all__ = ["CharacterNoise", "Slip"]

Slip: TypeAlias = Literal["keyboard", "ocr", "homophone", "shape", "swap", "drop", "double"]


class CharacterNoise(WordEdits):
    """Letters replaced by neighbours and look-alikes, swapped, dropped and doubled.

    Digits stay, since another number is another fact. A word keeps at least one letter, so
    words, and with them tags, stay in step; where every Chinese character is a token of its own,
    that leaves replacement alone.
    """

    kind: Literal["character_noise"] = "character_noise"
    rate: float = Field(default=0.05, ge=0, le=1)
    """The chance of each letter to be hit; above 0, every text has at least one changed."""
    slips: tuple[Slip, ...] = Field(
        default=("keyboard", "ocr", "homophone", "shape", "swap", "drop", "double"), min_length=1
    )
    """What may happen to a letter that is hit, with equal chances among what applies to it:
    keyboard, ocr and double to letters, homophone and shape to Chinese characters, swap (with the
    next one) and drop to both."""

    def edit_words(
        self, words: Sequence[str], protected: Sequence[bool], rng: np.random.Generator
    ) -> Edited:
        """See `WordEdits.edit_words`; the number of words stays, so nothing needs protection."""
        del protected
        letters = [list(word) for word in words]
        places = [
            (number, place)
            for number, word in enumerate(words)
            if not is_untouchable(word)
            for place, letter in enumerate(word)
            if letter.isalpha()
        ]
        if self.rate and places:
            hits = np.flatnonzero(rng.random(len(places)) < self.rate)
            slipped = [self._slip(words, letters, places[hit], rng=rng) for hit in hits]
            others = [] if any(slipped) else rng.permutation(len(places)).tolist()
            for hit in others:
                if self._slip(words, letters, places[hit], rng=rng):
                    break
        return [(number, "".join(word)) for number, word in enumerate(letters)]

    def _slip(
        self,
        words: Sequence[str],
        letters: list[list[str]],
        at: tuple[int, int],
        *,
        rng: np.random.Generator,
    ) -> bool:
        """Changes the letter at a word and a place in it; whether there was a way to."""
        number, place = at
        word = letters[number]
        ways = _ways(words[number], word, place)
        allowed = [slip for slip in self.slips if slip in ways]
        if not allowed:
            return False
        slip = allowed[int(rng.integers(len(allowed)))]
        choices = ways[slip]
        chosen = choices[int(rng.integers(len(choices)))]
        if slip == "swap":
            word[place + 1] = word[place]
        word[place] = chosen
        return True


def _ways(original: str, word: Sequence[str], place: int) -> dict[Slip, Sequence[str]]:
    """What the letter at ``place`` may become, by slip; hits go from left to right."""
    letter = word[place]
    ways: dict[Slip, Sequence[str]] = {}
    if is_han(letter):
        ways["shape"] = SHAPES.get(letter, "")
        if letter == original[place]:  # not one that was swapped here, away from its reading
            ways["homophone"] = homophones(original)[place] if is_han(original) else ""
    else:
        ways["keyboard"] = _in_case_of(letter, KEYBOARD.get(letter.lower(), ""))
        ways["ocr"] = OCR.get(letter, ())
        ways["double"] = (letter * 2,)
    if place + 1 < len(word) and word[place + 1].isalpha() and word[place + 1] != letter:
        ways["swap"] = (word[place + 1],)
    if sum(map(len, word)) > 1:
        ways["drop"] = ("",)
    return {slip: choices for slip, choices in ways.items() if choices}


def _in_case_of(letter: str, others: str) -> str:
    return others.upper() if letter.isupper() else others
