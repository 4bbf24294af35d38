"""Examples of what augmentation did to the rows, for a person to look at in the report."""

import json
from collections.abc import Sequence
from typing import Any

from ray_sft.core import Config
from ray_sft.data.augment import AnyAugmentation, copies_of
from ray_sft.data.quality import Quality
from ray_sft.data.rows import as_json, iterate_positions
from ray_sft.data.sources import Source
from ray_sft.data.store import SampleStore
from ray_sft.tasks import Row

__all__ = ["Change", "find_changes"]


class Change(Config):
    """A text before and after an augmentation."""

    before: str
    """As it stands in the source."""
    after: str
    """As the copy has it."""


def find_changes(
    source: Source,
    store: SampleStore,
    augment: Sequence[AnyAugmentation],
    *,
    quality: Quality,
    seed: int,
    limit: int = 3,
) -> dict[str, list[Change]]:
    """The first accepted copies of each kind, made once more: shards hold no text."""
    kinds: list[str] = list(dict.fromkeys(operation.kind for operation in augment))
    wanted = {kind: store.copies(kind, limit=limit) for kind in kinds}
    missing = {position for copies in wanted.values() for position, _ in copies}
    changes: dict[str, list[Change]] = {kind: [] for kind in kinds}
    rows = iterate_positions(source, quality)
    while missing:
        position, raw = next(rows)
        if position not in missing:
            continue
        missing.remove(position)
        row = json.loads(as_json(raw))
        for copy in copies_of([row], [position], augment, seed=seed)[0]:
            if (position, copy.number) in wanted[copy.kind]:
                changes[copy.kind].append(_change(row, copy.row))
    return changes


def _change(before: Row, after: Row) -> Change:
    changed = [name for name in before if name != "tags" and before[name] != after[name]]
    return Change(
        before="\n".join(_shown(before[name]) for name in changed),
        after="\n".join(_shown(after[name]) for name in changed),
    )


def _shown(value: Any) -> str:
    """A text, the words of a sentence or the turns of a conversation as one text."""
    if not isinstance(value, list):
        return str(value)
    if all(isinstance(item, dict) for item in value):
        return "\n".join(str(turn.get("content", "")) for turn in value)
    return " ".join(map(str, value))
