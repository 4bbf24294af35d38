"""Names, places and products exchanged for others of their kind, and templates filled with them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import groupby
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ray_sft.data.augment.base import Augmentation, change_texts
from ray_sft.data.augment.draws import Draws
from ray_sft.data.augment.segments import HAN
from ray_sft.data.augment.word_edits import OUTSIDE
from ray_sft.tasks import Rejected, Row
from ray_sft.tasks.words import read_sentence, split_words

__all__ = ["TemplateFilling"]

_SLOT = re.compile(r"\{(\w+)\}")


class TemplateFilling(Augmentation):
    """Values in the slots of sentences.

    A text becomes a template of its label with its slots filled, where the label has templates;
    else every value of a slot that stands in it is exchanged for another value of the slot. In a
    tagged sentence, the entities whose type is a slot are exchanged, and the tags follow their new
    length (mention replacement, Dai & Adel 2020, arXiv:2010.11683, section 3.2).
    """

    kind: Literal["template_filling"] = "template_filling"
    rate: float = Field(default=1.0, ge=0, le=1)
    """The chance of each value in a text, and of each entity, to be exchanged."""
    slots: dict[str, tuple[str, ...]] = Field(min_length=1)
    """The values of each slot, such as ``{city: [Paris, New York]}``; for tagged sentences by type
    of entity, such as ``{LOC: [Paris, New York]}``."""
    templates: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """By label, sentences with slots in braces: ``{card_lost: ["I lost my {card} in {city}"]}``."""

    @model_validator(mode="after")
    def _slots_have_values(self) -> Self:
        for name, values in self.slots.items():
            if not values or not all(value.strip() for value in values):
                raise ValueError(f"slots.{name}: give one value or more, none of them empty")
        for label, templates in self.templates.items():
            if not templates:
                raise ValueError(f"templates.{label}: give one sentence or more")
            for name in (name for text in templates for name in _SLOT.findall(text)):
                if name not in self.slots:
                    raise ValueError(
                        f"templates.{label}: '{{{name}}}' is no slot (there are: "
                        f"{', '.join(self.slots)}). Name its values under slots.{name}"
                    )
        return self

    def change_rows(self, rows: Sequence[Row], rngs: Sequence[Draws]) -> list[dict[str, Any]]:
        """See `Augmentation.change_rows`."""
        return [self._changed(row, rng) for row, rng in zip(rows, rngs, strict=True)]

    def _changed(self, row: Row, rng: Draws) -> dict[str, Any]:
        tags = row.get("tags")
        if tags is not None:
            return self._with_other_entities(row, tags, rng)
        templates = self.templates.get(str(row.get("label", "")), ())
        if templates and isinstance(row.get("text"), str):
            if rng.random() >= self.rate:
                return dict(row)
            template = rng.choice(templates)
            return dict(row) | {"text": self._filled(template, rng)}
        return change_texts(row, partial(self._exchanged, rng=rng))

    def _filled(self, template: str, rng: Draws) -> str:
        return _SLOT.sub(lambda slot: _drawn(self.slots[slot[1]], rng), template)

    def _exchanged(self, text: str, rng: Draws) -> str:
        def other(found: re.Match[str]) -> str:
            if rng.random() >= self.rate:
                return found[0]
            return _drawn(self.slots[self._slot_of[found[0]]], rng, but=found[0])

        return self._values.sub(other, text)

    def _with_other_entities(self, row: Row, tags: object, rng: Draws) -> dict[str, Any]:
        sentence = read_sentence(row)
        if isinstance(sentence, Rejected) or not isinstance(tags, list):
            return dict(row)
        words = sentence.words
        if len(words) != len(tags) or not all(isinstance(tag, str) for tag in tags):
            return dict(row)
        new_words: list[str] = []
        new_tags: list[str] = []
        for kind, start, stop in _mentions(tags):
            mention, mention_tags = words[start:stop], tags[start:stop]
            if kind in self.slots and rng.random() < self.rate:
                value = _drawn(self.slots[kind], rng, but=" ".join(mention))
                mention = [word for word, _, _ in split_words(value)] or mention
                mention_tags = _tags_of_length(mention_tags, len(mention))
            new_words += mention
            new_tags += mention_tags
        if new_words == words:
            return dict(row)
        return dict(row) | {"tokens": new_words, "tags": new_tags}

    @cached_property
    def _slot_of(self) -> Mapping[str, str]:
        return {value: name for name, values in self.slots.items() for value in values}

    @cached_property
    def _values(self) -> re.Pattern[str]:
        """Any value that is no part of a longer word, the longest first."""
        values = sorted(self._slot_of, key=lambda value: (-len(value), value))
        return re.compile("|".join(_whole(value) for value in values))


def _whole(value: str) -> str:
    """A value where no letter or digit goes on; Chinese is written without spaces."""
    word = f"[^\\W{HAN}]"
    before = f"(?<!{word})" if re.match(word, value) else ""
    after = f"(?!{word})" if re.search(f"{word}$", value) else ""
    return before + re.escape(value) + after


def _drawn(values: Sequence[str], rng: Draws, *, but: str = "") -> str:
    """One of the values, another than ``but`` where there is one."""
    others = [value for value in values if value != but] or list(values)
    return rng.choice(others)


def _mentions(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Type, start and end of every entity and of every run of words between them ("")."""
    number, before = 0, OUTSIDE
    numbers = []
    for tag in tags:
        is_new = tag.startswith("B-") or _type_of(tag) != _type_of(before)
        number += is_new
        numbers.append(number)
        before = tag
    start = 0
    for _, group in groupby(numbers):
        stop = start + len(list(group))
        yield _type_of(tags[start]), start, stop
        start = stop


def _type_of(tag: str) -> str:
    return "" if tag == OUTSIDE else tag[2:]


def _tags_of_length(tags: Sequence[str], length: int) -> list[str]:
    """The tags of an entity for another number of words: its first, then those inside."""
    first = tags[0]
    inside = f"I-{first[2:]}" if first.startswith("B-") else first
    return [first, *[inside] * (length - 1)]
