"""Easy data augmentation: synonyms, new words, words swapped, words left out."""

import re
from collections.abc import Sequence, Set
from functools import cached_property
from itertools import islice, pairwise
from typing import ClassVar, Literal

from pydantic import Field

from ray_sft.data.augment.draws import Draws
from ray_sft.data.augment.segments import is_chinese, is_han, is_untouchable, words_of
from ray_sft.data.augment.synonyms import CHINESE, LONGEST_CHINESE, synonyms_of
from ray_sft.data.augment.word_edits import Edits, WordEdits

__all__ = ["Eda"]


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

    def edit_words(self, words: Sequence[str], protected: Sequence[bool], rng: Draws) -> Edits:
        """See `WordEdits.edit_words`."""
        text = _Words(words, protected)
        makers = (
            (text.replace, self.alpha_synonym),
            (text.insert, self.alpha_insertion),
            (text.swap, self.alpha_swap),
            (text.delete, self.alpha_deletion),
        )
        for choice in rng.order(len(makers)):
            make, alpha = makers[choice]
            if alpha and (edits := make(alpha, rng)):
                return edits
        return {}


class _Words:
    """The words of a text: which of them may move, and which have synonyms."""

    def __init__(self, words: Sequence[str], protected: Sequence[bool]) -> None:
        self.words = words
        self.free = [
            index
            for index, word in enumerate(words)
            if not protected[index] and not is_untouchable(word)
        ]

    @cached_property
    def known(self) -> list[tuple[int, int]]:
        """Where words with synonyms stand."""
        return _known_spans(self.words, set(self.free))

    def replace(self, alpha: float, rng: Draws) -> Edits:
        """Synonyms in place of some words."""
        edits: dict[int, list[str]] = {}
        for choice in islice(rng.order(len(self.known)), self._count(alpha)):
            start, stop = self.known[choice]
            edits |= {index: [] for index in range(start, stop)}
            for offset, word in enumerate(self._synonym(start, stop, rng)):
                edits[min(start + offset, stop - 1)].append(word)
        return edits

    def insert(self, alpha: float, rng: Draws) -> Edits:
        """Synonyms of words of the text, each after some free word."""
        edits: dict[int, list[str]] = {}
        for _ in range(self._count(alpha) if self.known else 0):
            start, stop = rng.choice(self.known)
            place = rng.choice(self.free)
            edits.setdefault(place, [self.words[place]]).extend(self._synonym(start, stop, rng))
        return edits

    def swap(self, alpha: float, rng: Draws) -> Edits:
        """Pairs of words in each other's place."""
        words, free = list(self.words), self.free
        nearby = is_chinese("".join(words))
        pairs = [(one, other) for one, other in pairwise(free) if other == one + 1 or not nearby]
        moved: set[int] = set()
        for _ in range(self._count(alpha) if pairs else 0):
            if nearby:
                one, other = rng.choice(pairs)
            else:
                one, other = (free[place] for place in islice(rng.order(len(free)), 2))
            words[one], words[other] = words[other], words[one]
            moved |= {one, other}
        return {index: [words[index]] for index in moved if words[index] != self.words[index]}

    def delete(self, alpha: float, rng: Draws) -> Edits:
        """Some words left out, but never all."""
        gone = [self.free[hit] for hit in rng.hits(len(self.free), alpha)]
        if len(gone) == len(self.words):
            gone.pop(rng.below(len(gone)))
        return dict.fromkeys(gone, ())

    def _count(self, alpha: float) -> int:
        return max(1, int(alpha * len(self.words)))

    def _synonym(self, start: int, stop: int, rng: Draws) -> list[str]:
        """A synonym of the words of a span; by characters where those are words."""
        synonym = rng.choice(synonyms_of("".join(self.words[start:stop])))
        return [synonym] if stop == start + 1 else list(synonym)


def _known_spans(words: Sequence[str], free: Set[int]) -> list[tuple[int, int]]:
    """Where words with synonyms stand; in Chinese also over several words of one character."""
    spans = []
    start = 0
    while start < len(words):
        stop = _known_end(words, start, free) if start in free else 0
        if stop:
            spans.append((start, stop))
        start = stop or start + 1
    return spans


def _known_end(words: Sequence[str], start: int, free: Set[int]) -> int:
    """Where the longest known word from ``start`` ends; 0 where there is none."""
    if not _is_character(words[start]):
        return start + 1 if synonyms_of(words[start]) else 0
    end, farthest = start + 1, min(start + LONGEST_CHINESE, len(words))
    while end < farthest and end in free and _is_character(words[end]):
        end += 1
    while end > start:
        if synonyms_of("".join(words[start:end])):
            return end
        end -= 1
    return 0


def _is_character(word: str) -> bool:
    return len(word) == 1 and is_han(word)
