"""What a search for a smaller model has found: a table, a plot, and all of it as JSON."""

import json
from pathlib import Path
from typing import get_args

from jinja2 import Environment
from rich.console import Console
from rich.table import Table

from ray_sft.bundle import Bundle
from ray_sft.compress_search import Found, main_figure
from ray_sft.compression import Target, Tried
from ray_sft.core.whole_files import write_whole
from ray_sft.plots import new_axes, svg

__all__ = ["show_found", "told_shortfall", "write_found"]

_TARGETS: tuple[Target, ...] = get_args(Target)
_AREA = 400.0
"""Of the mark of the source in the plot, in square points."""


def write_found(folder: Path, source: Bundle, found: Found) -> None:
    """Writes ``search.json`` and ``search.html``."""
    tree = {
        "name": source.manifest.name,
        "source": source.fingerprint,
        **found.settings.model_dump(mode="json"),
        "bundle": str(found.bundle.path) if found.bundle else None,
        "tried": [
            {
                **one.model_dump(mode="json"),
                "on_front": one in found.front,
                **({f"{t}_gain": one.gain(t) for t in _TARGETS} if one.is_finished else {}),
            }
            for one in found.tried
        ],
    }
    write_whole(folder / "search.json", json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
    template = Path(__file__).with_suffix(".html.j2").read_text(encoding="utf-8")
    metric, _ = main_figure(source)
    html = (
        Environment(autoescape=True)
        .from_string(template)
        .render(
            name=source.manifest.name,
            metric=metric,
            settings=found.settings,
            header=_header(metric),
            rows=[_cells(one, found, metric) for one in found.tried],
            plot=_plot(found, metric),
        )
    )
    write_whole(folder / "search.html", html)


def show_found(console: Console, source: Bundle, found: Found) -> None:
    """What was tried as a table, the best first."""
    metric, _ = main_figure(source)
    title = f"{len(found.tried)} models, the best in {found.settings.target} first"
    table = Table(
        title=title, caption="* no other one is better in size, time and quality together"
    )
    table.add_column("model", min_width=20, overflow="fold")
    shown = ("change", "MB", "smaller", "sooner", "faster")
    for name in (metric.split("/")[-1], *shown):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found.tried:
        name, figure, *others, remark = _cells(one, found, metric)
        cells = dict(zip(_header(metric)[2:-1], others, strict=True))
        words = f"{name} *" if one in found.front else f"{name}: {remark}" if remark else name
        table.add_row(words, figure, *(cells[column] for column in shown))
    console.print(table)


def told_shortfall(found: Found) -> str:
    """Why there is no bundle: by how much the nearest model misses the budget, and where it is."""
    budget = ", ".join(f"{name}={allowed:+g}" for name, allowed in found.settings.budget.items())
    nearest = found.nearest
    if nearest is None:
        notes = "; ".join(dict.fromkeys(one.note for one in found.tried)) or "every trial failed"
        return f"no model could be made within {budget}: {notes}."
    if nearest.keeps_budget:
        return (
            f"no model within {budget} is better than the source in {found.settings.target}, such "
            f"as {nearest.candidate}: {nearest.gain(found.settings.target):.2f} times. Serve the "
            "source, or search for another target."
        )
    return (
        f"none of {len(found.tried)} models keeps the budget {budget}. The nearest "
        f"({nearest.candidate}) misses {nearest.spelled_misses}; it is kept in "
        f"'{nearest.reports[-1].path}'. Widen --budget, train students longer "
        "(--epochs), or try more models (--trials)."
    )


def _header(metric: str) -> list[str]:
    return ["model", metric, "change", "MB", "smaller", "p50 (ms)", "sooner", "faster", ""]


def _cells(one: Tried, found: Found, metric: str) -> list[str]:
    if not one.reports:
        return [str(one.candidate), *([""] * 7), one.note]
    last = one.reports[-1]
    figure, before = last.metrics[metric], one.reports[0].metrics[metric]
    verdict = "on the front" if one in found.front else ""
    if one.misses:
        verdict = "misses the budget"
    return [
        str(one.candidate),
        f"{figure:.4f}",
        f"{figure - before:+.4f}",
        f"{last.num_bytes / 1e6:.1f}",
        f"{one.gain('size'):.2f}x",
        f"{last.p50_ms:.2f}",
        f"{one.gain('latency'):.2f}x",
        f"{one.gain('throughput'):.2f}x",
        one.note or verdict,
    ]


def _plot(found: Found, metric: str) -> str:
    """Quality by time, the area of a mark being the size; what nothing beats is filled."""
    plot, axes = new_axes(height=4.0)
    finished = [one for one in found.tried if one.is_finished]
    for one in finished:
        last = one.reports[-1]
        on_front = one in found.front
        axes.scatter(
            [last.p50_ms],
            [last.metrics[metric]],
            s=_AREA / one.gain("size"),
            facecolors="C0" if on_front else "none",
            edgecolors="C0" if not one.misses else "C3",
            alpha=0.8,
        )
    if finished:
        source = finished[0].reports[0]
        axes.scatter([source.p50_ms], [source.metrics[metric]], s=_AREA, color="C7", alpha=0.5)
        axes.annotate(
            source.variant,
            (source.p50_ms, source.metrics[metric]),
            (-14, 0),
            textcoords="offset points",
            horizontalalignment="right",
            verticalalignment="center",
        )
    axes.set_xscale("log")
    axes.set_xlabel("median time of one request (ms)")
    axes.set_ylabel(metric)
    return svg(plot)
