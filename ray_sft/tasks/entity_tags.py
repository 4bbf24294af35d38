"""Tags of words and the entities that they mean.

Files spell tags in three schemes. All are read by one rule, that of CoNLL's evaluation script: an
entity goes on for as long as I- tags of its type follow; B- always begins one, and so does an I-
tag after O or after another type. What a model learns is always BIO.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ray_sft.core import DataError
from ray_sft.tasks.base import IGNORED, Array
from ray_sft.tasks.words import AlignedWords

__all__ = [
    "OUTSIDE",
    "Scheme",
    "Span",
    "entity_spans",
    "entity_type",
    "tag_ids",
    "tag_names",
    "token_targets",
]

Scheme: TypeAlias = Literal["bio", "iob1", "io"]

OUTSIDE = 0
"""The id of the tag O. The types' tags follow in pairs: B- odd, I- even."""
_PREFIXES: Mapping[Scheme, tuple[str, ...]] = {
    "bio": ("B-", "I-"),
    "iob1": ("B-", "I-"),
    "io": ("I-",),
}


@dataclass(frozen=True, slots=True)
class Span:
    """An entity as a run of words."""

    start: int
    """Its first word."""
    end: int
    """The word after its last."""
    label: int
    """Index of its type."""


def tag_names(labels: Sequence[str]) -> list[str]:
    """The tags of a model in the order of its outputs: O, then B- and I- of each type."""
    return ["O", *(prefix + label for label in labels for prefix in ("B-", "I-"))]


def entity_type(tag: Any, scheme: Scheme) -> str:
    """The type of a file's tag, empty for O.

    Raises:
        DataError: the tag is none of the scheme's.
    """
    if tag == "O":
        return ""
    if isinstance(tag, str) and len(tag) > 2 and tag.startswith(_PREFIXES[scheme]):
        return tag[2:]
    allowed = ", ".join(["O", *(f"{prefix}<type>" for prefix in _PREFIXES[scheme])])
    raise DataError(f"tag {tag!r} is none of the scheme {scheme} ({allowed})")


def tag_ids(tags: Sequence[Any], scheme: Scheme, labels: Mapping[str, int]) -> list[int]:
    """The ids of a file's ``tags``, under the prefixes that the file gives them.

    Raises:
        DataError: a tag is none of the scheme's, or of a type that ``labels`` does not index.
    """
    ids = []
    for tag in tags:
        label = entity_type(tag, scheme)
        if label and label not in labels:
            raise DataError(f"entity type '{label}' is not one of the task's labels")
        ids.append(1 + 2 * labels[label] + (tag[0] == "I") if label else OUTSIDE)
    return ids


def entity_spans(ids: Sequence[int]) -> list[Span]:
    """The entities that tag ids mean, in order; an I- that continues nothing begins an entity."""
    spans: list[Span] = []
    start, current = 0, -1
    for position, tag in enumerate([*ids, OUTSIDE]):
        label = (tag - 1) // 2 if tag != OUTSIDE else -1
        begins = tag % 2 == 1
        if current >= 0 and (begins or label != current):
            spans.append(Span(start, position, current))
            current = -1
        if label >= 0 and current < 0:
            start, current = position, label
    return spans


def token_targets(spans: Sequence[Span], aligned: AlignedWords) -> tuple[Array, Array]:
    """BIO tags at the first sub-words, -100 elsewhere; and the labels of entities without words.

    An entity has the words that were kept. So a zero-width word inside it does not cut it in two,
    and one that stands first leaves the B- to the next.
    """
    targets = np.full(len(aligned.input_ids), IGNORED, dtype=np.int32)
    targets[aligned.starts] = OUTSIDE
    start_of = dict(zip(aligned.kept, aligned.starts, strict=True))
    lost = []
    for span in spans:
        starts = [start_of[word] for word in range(span.start, span.end) if word in start_of]
        if not starts:
            lost.append(span.label)
            continue
        begin = 1 + 2 * span.label
        targets[starts] = begin + 1
        targets[starts[0]] = begin
    return targets, np.asarray(lost, dtype=np.int32)
