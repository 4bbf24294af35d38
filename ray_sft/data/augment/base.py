"""The contract of an augmentation: rows in, changed rows with the same labels out.

Two kinds of augmentation say less and leave the placing to their base: `WordEdits` change single
words, and keep the tags of tagged words; `TextRewrites` say whole texts anew. Which texts of a
row may change:

    text, candidate     a text
    history             each text of a list
    messages            what the user said; the assistant's turns are what a model learns to write

Every other column, labels above all, stays as it is.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import Field

from ray_sft.core import Config
from ray_sft.data.augment.draws import Draws
from ray_sft.tasks import Row

__all__ = ["Augmentation", "TextRewrites", "change_texts"]

_TEXT_COLUMNS = ("text", "candidate")


class Augmentation(Config, ABC):
    """Makes changed copies of training rows. Subclasses are frozen values with a ``kind``."""

    kind: str
    copies: int = Field(default=1, ge=1, le=100)
    """How many changed copies of every training row this operation makes."""

    uses_gpu: ClassVar[bool] = False
    """Whether a model of it runs on the task's GPU, where the cluster has some."""
    keeps_tags: ClassVar[bool] = True
    """Whether the words of a tagged row still have their tags afterwards."""

    def __call__(self, row: Row, rng: Draws) -> dict[str, Any]:
        """``row`` with its text changed, see `change_rows`."""
        return self.change_rows([row], [rng])[0]

    @abstractmethod
    def change_rows(self, rows: Sequence[Row], rngs: Sequence[Draws]) -> list[dict[str, Any]]:
        """One changed copy of each row, drawn from its own generator.

        Pure: a row and a generator give the same copy, whatever stands beside them. Where a
        column is not what its task expects, it stays as it is.
        """

    def check(self) -> None:
        """Loads nothing large; raises where the operation cannot work on this machine.

        Raises:
            ConfigError: a model or a file that it needs is not there, or of another kind.
        """

    def fingerprint(self) -> str:
        """Changes where the operation would make other copies."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class TextRewrites(Augmentation):
    """Says whole texts in other words; rows with tags stay as they are."""

    keeps_tags: ClassVar[bool] = False

    rate: float = Field(default=1.0, ge=0, le=1)
    """Share of the texts that are said anew; 0 for none."""

    @abstractmethod
    def rewrite(self, texts: Sequence[str], rngs: Sequence[Draws]) -> list[str]:
        """Each text, none of them blank, in other words; the text itself where that fails."""

    def change_rows(self, rows: Sequence[Row], rngs: Sequence[Draws]) -> list[dict[str, Any]]:
        """See `Augmentation.change_rows`."""
        texts: list[str] = []
        owners: list[Draws] = []
        is_chosen: list[bool] = []

        def collect(text: str, rng: Draws) -> str:
            is_chosen.append(bool(text.strip()) and rng.random() < self.rate)
            if is_chosen[-1]:
                texts.append(text)
                owners.append(rng)
            return text

        is_free = [row.get("tags") is None for row in rows]
        for row, rng, free in zip(rows, rngs, is_free, strict=True):
            if free:
                change_texts(row, partial(collect, rng=rng))
        rewritten, chosen = iter(self.rewrite(texts, owners) if texts else []), iter(is_chosen)

        def replace(text: str) -> str:
            return next(rewritten) if next(chosen) else text

        return [
            change_texts(row, replace) if free else dict(row)
            for row, free in zip(rows, is_free, strict=True)
        ]


def change_texts(row: Row, edit: Callable[[str], str]) -> dict[str, Any]:
    """``row`` with every text edited that an augmentation may change, in a fixed order."""
    changed = dict(row)
    for column in _TEXT_COLUMNS:
        if isinstance(row.get(column), str):
            changed[column] = edit(row[column])
    if _are(str, row.get("history")):
        changed["history"] = [edit(text) for text in row["history"]]
    if _are(dict, row.get("messages")):
        changed["messages"] = [_edited_turn(turn, edit) for turn in row["messages"]]
    return changed


def _edited_turn(turn: Row, edit: Callable[[str], str]) -> Row:
    if turn.get("role") != "user" or not isinstance(turn.get("content"), str):
        return turn
    return dict(turn) | {"content": edit(turn["content"])}


def _are(kind: type, value: object) -> bool:
    """Whether a value is a list of nothing but ``kind``."""
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)
