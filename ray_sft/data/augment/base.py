"""The contract of an augmentation: a row in, a changed row with the same labels out.

An augmentation says how it edits words, and `Augmentation` places that on the rows of the tasks:

    text, candidate     a text
    history             each text of a list
    messages            what the user said; the assistant's turns are what a model learns to write
    tokens and tags     words with labels: entities stay whole, in place and in order
    text and tags       the same, for the words that the text is split into

Every other column, labels above all, stays as it is. White space and punctuation outside of an
edit survive, and addresses, mentions and tickers are never edited (`segments`).
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any, ClassVar, TypeAlias

import numpy as np
from pydantic import Field

from ray_sft.core import Config
from ray_sft.data.augment.segments import RUNS, is_han, split
from ray_sft.tasks import Rejected, Row
from ray_sft.tasks.words import read_sentence

__all__ = ["OUTSIDE", "Augmentation", "Edited"]

OUTSIDE = "O"
"""The tag of a word outside of every entity, in BIO, IOB1 and IO alike."""

Edited: TypeAlias = list[tuple[int, str]]
"""Words after an edit, each with the index of the word before whose place and tag it has.

Indices never fall. One that is missing was deleted; one that stands twice has a new word beside
it.
"""


_TEXT_COLUMNS = ("text", "candidate")


class Augmentation(Config, ABC):
    """Makes changed copies of training rows. Subclasses are frozen values with a ``kind``."""

    kind: str
    copies: int = Field(default=1, ge=1, le=100)
    """How many changed copies of every training row this operation makes."""

    words: ClassVar[re.Pattern[str]] = RUNS
    """What one word of a text is for `edit_words`; one capturing group around everything."""

    def __call__(self, row: Row, rng: np.random.Generator) -> dict[str, Any]:
        """``row`` with its text changed; pure: the same row and generator give the same copy.

        Where a column is not what its task expects, it stays as it is.
        """
        tagged = self._edit_tagged(row, rng)
        if tagged is not None:
            return dict(row) | tagged
        changed = dict(row)
        for column in _TEXT_COLUMNS:
            if isinstance(row.get(column), str):
                changed[column] = self.edit(row[column], rng)
        if _are(str, row.get("history")):
            changed["history"] = [self.edit(text, rng) for text in row["history"]]
        if _are(dict, row.get("messages")):
            changed["messages"] = [self._edit_turn(turn, rng) for turn in row["messages"]]
        return changed

    @abstractmethod
    def edit_words(
        self, words: Sequence[str], protected: Sequence[bool], rng: np.random.Generator
    ) -> Edited:
        """The words of a text or a sentence, edited.

        Words that are ``protected`` are part of an entity: they may be spelled otherwise, but stay
        whole and where they are, so their index appears exactly once.
        """

    def edit(self, text: str, rng: np.random.Generator) -> str:
        """``text`` with its words edited, and everything between them as it was."""
        words, gaps = split(text, self.words)
        return _joined(self.edit_words(words, [False] * len(words), rng), gaps) if words else text

    def _edit_turn(self, turn: Row, rng: np.random.Generator) -> Row:
        if turn.get("role") != "user" or not isinstance(turn.get("content"), str):
            return turn
        return dict(turn) | {"content": self.edit(turn["content"], rng)}

    def _edit_tagged(self, row: Row, rng: np.random.Generator) -> dict[str, list[str]] | None:
        """The tokens and tags of a copy; None for a row that has no tag for each of its words."""
        tags, sentence = row.get("tags"), read_sentence(row)
        if isinstance(sentence, Rejected) or not isinstance(tags, list):
            return None
        words = sentence.words
        if len(words) != len(tags):
            return None
        protected = [tag != OUTSIDE for tag in tags]
        edited = self.edit_words(words, protected, rng)
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


def _are(kind: type, value: object) -> bool:
    """Whether a value is a list of nothing but ``kind``."""
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


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
