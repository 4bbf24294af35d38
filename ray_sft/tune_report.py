"""What a search has found: a table, a plot for each setting, and the best recipe."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ray_sft.core.whole_files import write_whole
from ray_sft.plots import new_axes, svg
from ray_sft.recipe import Recipe
from ray_sft.tuning import Trial, best_recipe

__all__ = ["show_search", "write_search"]

_SHOWN = 10


def write_search(folder: Path, recipe: Recipe, trials: Sequence[Trial], figure: str) -> Path:
    """Writes ``tune.json``, ``tune.html`` and ``best.yaml``; returns the path of the last.

    Args:
        folder: of the search.
        recipe: that was searched.
        trials: the best first.
        figure: what they are compared by.
    """
    rows = [
        {
            "changes": trial.changes,
            figure: trial.figures[-1] if trial.figures else None,
            "evaluations": list(trial.figures),
            "seconds": trial.seconds,
            "error": trial.error,
        }
        for trial in trials
    ]
    tree = {"name": recipe.name, "figure": figure, "trials": rows}
    write_whole(folder / "tune.json", json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
    template = Path(__file__).with_suffix(".html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(template)
    plots = [(name, _plot(name, trials, figure)) for name in trials[0].changes]
    html = page.render(name=recipe.name, figure=figure, trials=trials, plots=plots)
    write_whole(folder / "tune.html", html)
    best = best_recipe(recipe, trials[0]).model_dump(mode="json")
    text = yaml.safe_dump(best, sort_keys=False, allow_unicode=True)
    write_whole(folder / "best.yaml", text)
    return folder / "best.yaml"


def show_search(console: Console, trials: Sequence[Trial], figure: str) -> None:
    """The best trials as a table."""
    table = Table(title=f"the best of {len(trials)} trials")
    for name in (*trials[0].changes, figure, "evaluations", "seconds"):
        table.add_column(name, justify="right")
    for trial in trials[:_SHOWN]:
        last = f"{trial.figures[-1]:.4f}" if trial.figures else "failed"
        cells = [Text(_spelled(value)) for value in trial.changes.values()]
        table.add_row(*cells, last, str(len(trial.figures)), f"{trial.seconds:.0f}")
    console.print(table)


def _spelled(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _plot(name: str, trials: Sequence[Trial], figure: str) -> str:
    """The figure of every trial by one setting; hollow where it was given up early."""
    plot, axes = new_axes(height=2.8)
    measured = [trial for trial in trials if trial.figures]
    longest = max(len(trial.figures) for trial in measured)
    values = [trial.changes[name] for trial in measured]
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    are_numbers = len(numbers) == len(values)
    places = numbers if are_numbers else [_spelled(value) for value in values]
    for place, trial in zip(places, measured, strict=True):
        face = "C0" if len(trial.figures) == longest else "none"
        axes.scatter([place], [trial.figures[-1]], facecolors=face, edgecolors="C0")
    if are_numbers and min(numbers) > 0 and max(numbers) > 20 * min(numbers):
        axes.set_xscale("log")
    axes.set_xlabel(name)
    axes.set_ylabel(figure)
    return svg(plot)
