"""Easy data augmentation: synonyms, new words, words swapped, words left out."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import Field

from ray_sft.data.augment.segments import is_chinese, is_han, is_untouchable, words_of
from ray_sft.data.augment.synonyms import CHINESE, LONGEST_CHINESE, synonyms_of
from ray_sft.data.augment.word_edits import Edited, WordEdits

__all__ = ["Eda"]

_Places: TypeAlias = list[list[str]]
"""For each word before, the words that stand in its place."""


class Eda(WordEdits):
    """One of four edits of a text's words (Wei & Zou 2019, arXiv:1901.11196).

    Each copy has one kind of edit, drawn with equal chances; where that changes nothing (no word
    has a synonym, say), another is tried. ``alpha`` is the share of words that an edit changes:
    at least one, but in random deletion, where it is each word's own chance.

    Where we deviate: the synonyms are a small list of our own instead of WordNet; new words come
    right after a word outside of entities; in Chinese, where words are not marked, neighbours are
    swapped instead of any two, and characters count as words unless the list knows their word.
    """

    kind: Literal["eda"] = "eda"
    alpha_synonym: float = Field(default=0.1, ge=0, le=1)
    """How many words are replaced by synonyms; 0 for none."""
    alpha_insertion: float = Field(default=0.1, ge=0, le=1)
    """How many synonyms of words of the text are put in at random places; 0 for none."""
    alpha_swap: float = Field(default=0.1, ge=0, le=1)
    """How many times two words change places; 0 for never."""
    alpha_deletion: float = Field(default=0.1, ge=0, le=1)
    """The chance of each word to be left out; 0 for none."""

    words: ClassVar[re.Pattern[str]] = words_of(CHINESE)

    def edit_words(
        self, words: Sequence[str], protected: Sequence[bool], rng: np.random.Generator
    ) -> Edited:
        """See `WordEdits.edit_words`."""
        text = _Words(words, protected)
        edits = [
            (text.replace, self.alpha_synonym),
            (text.insert, self.alpha_insertion),
            (text.swap, self.alpha_swap),
            (text.delete, self.alpha_deletion),
        ]
        before = list(enumerate(words))
        for choice in rng.permutation(len(edits)):
            edit, alpha = edits[choice]
            if alpha:
                places = edit(alpha, rng)
                after = [(index, word) for index, place in enumerate(places) for word in place]
                if after != before:
                    return after
        return before


class _Words:
    """The words of a text: which of them may move, and which have synonyms."""

    def __init__(self, words: Sequence[str], protected: Sequence[bool]) -> None:
        self.words = words
        self.free = [
            index
            for index, word in enumerate(words)
            if not protected[index] and not is_untouchable(word)
        ]
        self.known = _known_spans(words, set(self.free))

    def replace(self, alpha: float, rng: np.random.Generator) -> _Places:
        """Synonyms in place of some words."""
        places = self._places()
        for choice in rng.permutation(len(self.known))[: self._count(alpha)]:
            start, stop = self.known[choice]
            places[start:stop] = [[] for _ in range(start, stop)]
            for offset, word in enumerate(self._synonym(start, stop, rng)):
                places[min(start + offset, stop - 1)].append(word)
        return places

    def insert(self, alpha: float, rng: np.random.Generator) -> _Places:
        """Synonyms of words of the text, each after some free word."""
        places = self._places()
        for _ in range(self._count(alpha) if self.known else 0):
            start, stop = self.known[int(rng.integers(len(self.known)))]
            places[int(rng.choice(self.free))] += self._synonym(start, stop, rng)
        return places

    def swap(self, alpha: float, rng: np.random.Generator) -> _Places:
        """Pairs of words in each other's place."""
        places = self._places()
        pairs = list(pairwise(self.free))
        nearby = is_chinese("".join(self.words))
        if nearby:
            pairs = [(one, other) for one, other in pairs if other == one + 1]
        for _ in range(self._count(alpha) if pairs else 0):
            if nearby:
                one, other = pairs[int(rng.integers(len(pairs)))]
            else:
                one, other = rng.choice(self.free, size=2, replace=False).tolist()
            places[one], places[other] = places[other], places[one]
        return places

    def delete(self, alpha: float, rng: np.random.Generator) -> _Places:
        """Some words left out, but never all."""
        places = self._places()
        gone = [index for index in self.free if rng.random() < alpha]
        if len(gone) == len(places):
            gone.pop(int(rng.integers(len(gone))))
        for index in gone:
            places[index] = []
        return places

    def _places(self) -> _Places:
        return [[word] for word in self.words]

    def _count(self, alpha: float) -> int:
        return max(1, int(alpha * len(self.words)))

    def _synonym(self, start: int, stop: int, rng: np.random.Generator) -> list[str]:
        """A synonym of the words of a span; by characters where those are words."""
        others = synonyms_of("".join(self.words[start:stop]))
        synonym = others[int(rng.integers(len(others)))]
        return [synonym] if stop == start + 1 else list(synonym)


def _known_spans(words: Sequence[str], free: set[int]) -> list[tuple[int, int]]:
    """Where words with synonyms stand; in Chinese also over several words of one character."""
    spans = []
    start = 0
    while start < len(words):
        stop = next((end for end in _ends(words, start, free) if _is_known(words[start:end])), 0)
        if stop:
            spans.append((start, stop))
        start = stop or start + 1
    return spans


def _ends(words: Sequence[str], start: int, free: set[int]) -> list[int]:
    """Where a span from ``start`` may end, the farthest first; none where it is not free."""
    if start not in free:
        return []
    ends = [start + 1]
    if _is_character(words[start]):
        for end in range(start + 2, min(start + LONGEST_CHINESE, len(words)) + 1):
            if end - 1 not in free or not _is_character(words[end - 1]):
                break
            ends.append(end)
    return ends[::-1]


def _is_character(word: str) -> bool:
    return len(word) == 1 and is_han(word)


def _is_known(words: Sequence[str]) -> bool:
    return bool(synonyms_of("".join(words)))
