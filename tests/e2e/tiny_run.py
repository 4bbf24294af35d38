"""A run so small that it takes seconds: a model, rows, and a recipe in a folder."""

from pathlib import Path

from tests.factories import LABELS, TEXTS, tiny_encoder, tiny_processor

__all__ = ["write_tiny_run"]


def write_tiny_run(folder: Path, recipe: str) -> None:
    """Writes ``model``, ``rows.csv`` and ``recipe.yaml``."""
    tiny_encoder(len(LABELS)).save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    rows = [f'"{text}",{label}' for text, label in zip(TEXTS, LABELS, strict=True)]
    (folder / "rows.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (folder / "recipe.yaml").write_text(recipe)
