"""Augmentations that change single words, placed on texts and on tagged words.

Of a tagged row, entities stay whole, in place and in order:

    tokens and tags     words with labels
    text and tags       the same, for the words that the text is split into

White space and punctuation outside of an edit survive, and addresses, mentions and tickers are
never edited (`segments`).
"""

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias

from ray_sft.data.augment.base import Augmentation, change_texts
from ray_sft.data.augment.draws import Draws
from ray_sft.data.augment.segments import RUNS, is_han, pieces_of
from ray_sft.tasks import Rejected, Row
from ray_sft.tasks.words import read_sentence

__all__ = ["OUTSIDE", "Edits", "Passage", "WordEdits"]

OUTSIDE = "O"
"""The tag of a word outside of every entity, in BIO, IOB1 and IO alike."""

Edits: TypeAlias = Mapping[int, Sequence[str]]
"""What stands in the place of each word that changes, by index: nothing where it is left out, and
more than one where words are put beside it, which have its tag."""


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
    def edit_words(self, words: Sequence[str], protected: Sequence[bool], rng: Draws) -> Edits:
        """The words of a text or a sentence, edited.

        Words that are ``protected`` are part of an entity: they may be spelled otherwise, but stay
        whole and where they are, so exactly one word stands in their place.
        """

    def edit(self, text: str, rng: Draws) -> str:
        """``text`` with its words edited, and everything between them as it was."""
        return self.edit_text(text, partial(self._edit_passage, rng=rng))

    def change_rows(self, rows: Sequence[Row], rngs: Sequence[Draws]) -> list[dict[str, Any]]:
        """See `Augmentation.change_rows`."""
        return [
            self.change_row(row, partial(self.edit, rng=rng), partial(self._edit_passage, rng=rng))
            for row, rng in zip(rows, rngs, strict=True)
        ]

    def change_row(
        self, row: Row, edit: Callable[[str], str], edit_tagged: Callable[[Passage], Edits]
    ) -> dict[str, Any]:
        """A row with its texts edited in a fixed order, or else its tagged words."""
        sentence = _tagged_words(row)
        if sentence is None:
            return change_texts(row, edit)
        return dict(row) | self._with_tags(row["tags"], sentence, edit_tagged(sentence))

    def edit_text(self, text: str, edit: Callable[[Passage], Edits]) -> str:
        """A text whose words, if it has any, are edited as one passage."""
        pieces = pieces_of(text, self.words)
        words = pieces[1::2]
        if not words or not (edits := edit(Passage(words, [False] * len(words), pieces[0::2]))):
            return text
        return _joined(pieces, edits)

    def _edit_passage(self, passage: Passage, rng: Draws) -> Edits:
        return self.edit_words(passage.words, passage.protected, rng)

    def _with_tags(
        self, tags: Sequence[str], passage: Passage, edits: Edits
    ) -> dict[str, list[str]]:
        """The tokens and tags of a copy; nothing where no word has changed."""
        words, protected = passage.words, passage.protected
        for index, others in edits.items():
            is_whole = len(others) == 1 or not protected[index]
            assert is_whole, f"{self.kind} split or removed an entity's word"
        edited = [
            (index, other)
            for index, word in enumerate(words)
            for other in edits.get(index, (word,))
        ]
        if edited == list(enumerate(words)):
            return {}
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
    edited: Iterable[tuple[int, str]], words: Sequence[str], protected: Sequence[bool]
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


def _joined(pieces: list[str], edits: Edits) -> str:
    """Gaps and words in turn as a text; a word left out takes a blank beside it along."""
    for index, words in edits.items():
        pieces[2 * index + 1] = _side_by_side(words) if words else ""
    for index in sorted(index for index, words in edits.items() if not words):
        _close(pieces, 2 * index + 1)
    return "".join(pieces)


def _close(pieces: list[str], place: int) -> None:
    """Takes the blanks before an empty place away, or those behind it at the start of a line."""
    start = place - 1
    while start > 0 and not pieces[start].strip(" "):
        start -= 1
    before = pieces[start].rstrip(" ")
    if not before or before.endswith("\n"):
        pieces[place + 1] = pieces[place + 1].lstrip(" ")
    else:
        pieces[start : place + 1] = [before] + [""] * (place - start)


def _side_by_side(words: Sequence[str]) -> str:
    text = words[0]
    for before, word in pairwise(words):
        text += ("" if is_han(before) and is_han(word) else " ") + word
    return text
