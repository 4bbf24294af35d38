"""A run so small that it takes seconds: a model, rows, and a recipe in a folder."""

from pathlib import Path

from tests.factories import LABELS, TEXTS, tiny_encoder, tiny_processor

__all__ = ["tiny_recipe", "write_many", "write_tiny_run"]

_RECIPE = """
name: tiny
model: model
tasks: {{topic: {{kind: sequence_classification}}}}
data:
  topic:
    train: {{source: csv, path: {rows}}}
    eval: {{source: csv, path: rows.csv}}
train: {{{train}}}
"""


def tiny_recipe(train: str, *, rows: str = "rows.csv") -> str:
    """The recipe ``tiny`` with some settings of ``train``."""
    return _RECIPE.format(train=train, rows=rows)


def write_tiny_run(folder: Path, recipe: str) -> None:
    """Writes ``model``, ``rows.csv`` and ``recipe.yaml``."""
    tiny_encoder(len(LABELS)).save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    rows = [f'"{text}",{label}' for text, label in zip(TEXTS, LABELS, strict=True)]
    (folder / "rows.csv").write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (folder / "recipe.yaml").write_text(recipe)


def write_many(folder: Path, count: int) -> None:
    """Writes ``many.csv``, in which every tenth row has no label."""
    rows = (f'"{n} {TEXTS[n % 6]}",{"" if n % 10 == 9 else LABELS[n % 6]}\n' for n in range(count))
    (folder / "many.csv").write_text("text,label\n" + "".join(rows), encoding="utf-8")
