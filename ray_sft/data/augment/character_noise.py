"""Slips of the keyboard and of text recognition, letter by letter."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypeAlias

from pydantic import Field

from ray_sft.data.augment.draws import Draws
from ray_sft.data.augment.look_alikes import KEYBOARD, OCR, SHAPES, homophones
from ray_sft.data.augment.segments import is_han, untouchable_places
from ray_sft.data.augment.word_edits import Edits, WordEdits

__all__ = ["CharacterNoise", "Slip"]

Slip: TypeAlias = Literal["keyboard", "ocr", "homophone", "shape", "swap", "drop", "double"]

_BETWEEN = "\n"
"""Joins words of a sentence, which no slip crosses."""
_SWAP = ("swap",)
_NOTHING = ("",)


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

    def edit(self, text: str, rng: Draws) -> str:
        """See `WordEdits.edit`."""
        return "".join(self._slipped(text, rng))

    def edit_words(self, words: Sequence[str], protected: Sequence[bool], rng: Draws) -> Edits:
        """See `WordEdits.edit_words`; the number of words stays, so nothing needs protection."""
        del protected
        letters = self._slipped(_BETWEEN.join(words), rng)
        edits, start = {}, 0
        for number, word in enumerate(words):
            end = start + len(word)
            edits[number] = ["".join(letters[start:end])]
            start = end + len(_BETWEEN)
        return edits

    def _slipped(self, text: str, rng: Draws) -> list[str]:
        """What stands in the place of each character of a text."""
        letters = list(text)
        if not self.rate:
            return letters
        closed = untouchable_places(text)
        slipped = [
            self._slip(text, letters, place, rng=rng)
            for place in rng.hits(len(text), self.rate)
            if text[place].isalpha() and place not in closed
        ]
        if not any(slipped):
            places = [
                place
                for place, letter in enumerate(text)
                if letter.isalpha() and place not in closed
            ]
            for choice in rng.order(len(places)):
                if self._slip(text, letters, places[choice], rng=rng):
                    break
        return letters

    def _slip(self, text: str, letters: list[str], place: int, *, rng: Draws) -> bool:
        """Changes the letter at a place, and whether there was a way to.

        Hits go from left to right: what follows is as it was, but for a letter swapped here.
        """
        letter = letters[place]
        goes_on = place + 1 < len(text) and _in_one_word(text[place], text[place + 1])
        following = letters[place + 1] if goes_on else ""
        ways: list[Sequence[str]] = [*_replacements(letter, self.slips)]
        if "homophone" in self.slips and letter == text[place] and is_han(letter):
            # none of one that was swapped away from its reading
            ways += filter(None, [_homophones_at(text, place)])
        if "swap" in self.slips and following.isalpha() and following != letter:
            ways.append(_SWAP)
        if "drop" in self.slips and (goes_on or _ends_longer_word(text, letters, place)):
            ways.append(_NOTHING)
        if not ways:
            return False
        way = rng.choice(ways)
        if way is _SWAP:
            letters[place], letters[place + 1] = following, letter
        else:
            letters[place] = way[0] if len(way) == 1 else rng.choice(way)
        return True


@lru_cache(maxsize=4096)
def _replacements(letter: str, slips: tuple[Slip, ...]) -> tuple[Sequence[str], ...]:
    """What a letter may become wherever it stands, by slip."""
    ways: dict[Slip, Sequence[str]] = {
        "shape": SHAPES.get(letter, ""),
        "keyboard": _in_case_of(letter, KEYBOARD.get(letter.lower(), "")),
        "ocr": OCR.get(letter, ()),
        "double": () if is_han(letter) else (letter * 2,),
    }
    return tuple(choices for slip, choices in ways.items() if slip in slips and choices)


def _homophones_at(text: str, place: int) -> str:
    """What sounds like the Chinese character at a place, in the run that it stands in."""
    start = end = place
    while start and is_han(text[start - 1]):
        start -= 1
    while end < len(text) and is_han(text[end]):
        end += 1
    return homophones(text[start:end])[place - start]


def _ends_longer_word(text: str, letters: Sequence[str], place: int) -> bool:
    """Whether something is left of the word that the last letter at ``place`` ends."""
    return place > 0 and letters[place - 1] != "" and _in_one_word(text[place - 1], text[place])


def _in_one_word(one: str, other: str) -> bool:
    if one.isascii() and other.isascii():
        return (one.isalnum() or one == "_") and (other.isalnum() or other == "_")
    return one.isalnum() and other.isalnum() and is_han(one) == is_han(other)


def _in_case_of(letter: str, others: str) -> str:
    return others.upper() if letter.isupper() else others
