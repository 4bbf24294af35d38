"""Augmentations that change single words, placed on texts and on tagged words.

Of a tagged row, entities stay whole, in place and in order:

    tokens and tags     words with labels
    text and tags       the same, for the words that the text is split into

White space and punctuation outside of an edit survive, and addresses, mentions and tickers are
never edited (`segments`).
"""

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from typing import Any, ClassVar, TypeAlias

import numpy as np

from ray_sft.data.augment.base import Augmentation, change_texts
from ray_sft.data.augment.segments import RUNS, is_han, split
from ray_sft.tasks import Rejected, Row
from ray_sft.tasks.words import read_sentence

__all__ = ["OUTSIDE", "Edited", "Passage", "WordEdits"]

OUTSIDE = "O"
"""The tag of a word outside of every entity, in BIO, IOB1 and IO alike."""

Edited: TypeAlias = list[tuple[int, str]]
"""Words after an edit, each with the index of the word before whose place and tag it has.

Indices never fall. One that is missing was deleted; one that stands twice has a new word beside
it.
"""


@dataclass(frozen=True, slots=True)
class Passage:
    """The words of a text or of a tagged sentence."""

    words: Sequence[str]
    protected: Sequence[bool]
    """Which words are part of an entity."""
    gaps: Sequence[str] = ()
    """What stands around the words of a text: one more than words; empty for a sentence."""

    @property
    def text(self) -> str:
        """The passage as running text."""
        return self.with_words(self.words)

    def with_words(self, words: Sequence[str]) -> str:
        """As `text`, with as many other words."""
        if not self.gaps:
            return " ".join(words)
        pairs = zip(self.gaps, words, strict=False)
        return "".join(gap + word for gap, word in pairs) + self.gaps[-1]


class WordEdits(Augmentation):
    """Changes words one by one, of texts and of tagged words."""

    words: ClassVar[re.Pattern[str]] = RUNS
    """What one word of a text is for `edit_words`; one capturing group around everything. Only
    Chinese may be cut otherwise than by `RUNS`."""

    @abstractmethod
    def edit_words(
        self, words: Sequence[str], protected: Sequence[bool], rng: np.random.Generator
    ) -> Edited:
        """The words of a text or a sentence, edited.

        Words that are ``protected`` are part of an entity: they may be spelled otherwise, but stay
        whole and where they are, so their index appears exactly once.
        """

    def edit_passages(
        self, passages: Sequence[Passage], rngs: Sequence[np.random.Generator]
    ) -> list[Edited]:
        """`edit_words` of each passage, which may share its generator with those beside it."""
        return [
            self.edit_words(passage.words, passage.protected, rng)
            for passage, rng in zip(passages, rngs, strict=True)
        ]

    def finish(self, text: str, rng: np.random.Generator) -> str:
        """A text whose words were edited, with what is changed between them; here nothing."""
        del rng
        return text

    def edit(self, text: str, rng: np.random.Generator) -> str:
        """``text`` with its words edited, and everything between them as it was."""
        changed: str = self({"text": text}, rng)["text"]
        return changed

    def change_rows(
        self, rows: Sequence[Row], rngs: Sequence[np.random.Generator]
    ) -> list[dict[str, Any]]:
        """See `Augmentation.change_rows`."""
        passages: list[Passage] = []
        owners: list[np.random.Generator] = []
        sentences = [_tagged_words(row) for row in rows]
        for row, rng, sentence in zip(rows, rngs, sentences, strict=True):
            found = [sentence] if sentence else self._passages(row)
            passages += found
            owners += [rng] * len(found)
        edited = iter(zip(passages, self.edit_passages(passages, owners), strict=True))

        def replace(text: str, rng: np.random.Generator) -> str:
            if self._pattern(text).search(text) is not None:
                passage, words = next(edited)
                text = _joined(words, passage.gaps)
            return self.finish(text, rng)

        return [
            dict(row) | self._with_tags(row["tags"], *next(edited))
            if sentence
            else change_texts(row, partial(replace, rng=rng))
            for row, rng, sentence in zip(rows, rngs, sentences, strict=True)
        ]

    def _pattern(self, text: str) -> re.Pattern[str]:
        """`words`, or what is the same and faster where nothing is Chinese."""
        return RUNS if text.isascii() else self.words

    def _passages(self, row: Row) -> list[Passage]:
        """The texts of a row that have words."""
        found: list[Passage] = []

        def collect(text: str) -> str:
            words, gaps = split(text, self._pattern(text))
            if words:
                found.append(Passage(words, [False] * len(words), gaps))
            return text

        change_texts(row, collect)
        return found

    def _with_tags(
        self, tags: Sequence[str], passage: Passage, edited: Edited
    ) -> dict[str, list[str]]:
        """The tokens and tags of a copy; nothing where no word has changed."""
        words, protected = passage.words, passage.protected
        if edited == list(enumerate(words)):
            return {}
        found = [index for index, _ in edited if protected[index]]
        expected = [index for index, is_entity in enumerate(protected) if is_entity]
        assert found == expected, f"{self.kind} moved or removed an entity's word"
        edited = list(_kept_apart(edited, words, protected))
        return {
            "tokens": [word for _, word in edited],
            "tags": [tags[index] for index, _ in edited],
        }


def _tagged_words(row: Row) -> Passage | None:
    """The words of a row that has a tag for each of them."""
    tags = row.get("tags")
    if not isinstance(tags, list):
        return None
    sentence = read_sentence(row)
    if isinstance(sentence, Rejected) or len(sentence.words) != len(tags):
        return None
    return Passage(sentence.words, [tag != OUTSIDE for tag in tags])


def _kept_apart(
    edited: Edited, words: Sequence[str], protected: Sequence[bool]
) -> Iterator[tuple[int, str]]:
    """``edited``, with a word put back where the loss of all would have joined two entities.

    In the IO and IOB1 schemes, entities of one type are two only by what stands between them.
    """
    before = None
    for index, word in edited:
        if before is not None and index > before + 1 and protected[before] and protected[index]:
            yield before + 1, words[before + 1]
        yield index, word
        before = index


def _joined(edited: Edited, gaps: Sequence[str]) -> str:
    """Edited words between the gaps of their text; a deleted word takes a blank beside it along."""
    if len(edited) == len(gaps) - 1 and all(at == place for place, (at, _) in enumerate(edited)):
        pieces = [
            piece for gap, (_, word) in zip(gaps, edited, strict=False) for piece in (gap, word)
        ]
        return "".join([*pieces, gaps[-1]])
    by_index = {index: [w for _, w in group] for index, group in groupby(edited, lambda e: e[0])}
    text = gaps[0]
    for index, gap in enumerate(gaps[1:]):
        words = by_index.get(index)
        if words:
            text += _side_by_side(words) + gap
        elif _begins_line(text):
            text += gap.lstrip(" ")
        else:
            text = text.rstrip(" ") + gap
    return text


def _begins_line(text: str) -> bool:
    line = text.rstrip(" ")
    return not line or line.endswith("\n")


def _side_by_side(words: Sequence[str]) -> str:
    text = words[0]
    for before, word in pairwise(words):
        text += ("" if is_han(before) and is_han(word) else " ") + word
    return text
