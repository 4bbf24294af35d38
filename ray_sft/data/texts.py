"""Where the texts of a row are, for whatever edits or reads them."""

from collections.abc import Callable
from typing import Any

from ray_sft.tasks import Row

__all__ = ["map_texts", "texts_of"]

_TEXT_COLUMNS = ("text", "candidate", "positive", "negatives", "history", "tokens")
"""Columns that hold a text or a list of texts."""


def map_texts(row: Row, edit: Callable[[str], str]) -> dict[str, Any]:
    """``row`` with every text edited; what is not the text that its column should hold stays."""
    changed = dict(row)
    for column in _TEXT_COLUMNS:
        value = row.get(column)
        if isinstance(value, str):
            changed[column] = edit(value)
        elif isinstance(value, list):
            changed[column] = [_edited(item, edit) for item in value]
    if isinstance(row.get("messages"), list):
        changed["messages"] = [_edited_turn(turn, edit) for turn in row["messages"]]
    return changed


def texts_of(row: Row) -> str:
    """All texts of a row, one after the other."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    map_texts({name: value for name, value in row.items() if name != "tokens"}, note)
    tokens = row.get("tokens")
    if isinstance(tokens, list):
        found.append(" ".join(map(str, tokens)))
    return "\n".join(found)


def _edited(item: Any, edit: Callable[[str], str]) -> Any:
    """An edited word or text; one that would vanish stays, since labels count on its place."""
    return (edit(item) or item) if isinstance(item, str) else item


def _edited_turn(turn: Any, edit: Callable[[str], str]) -> Any:
    if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
        return turn
    return turn | {"content": edit(turn["content"])}
