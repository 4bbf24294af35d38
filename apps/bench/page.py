"""The figures as a page of its own: a table, and plots of latency over time and by percentile."""

import io
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment
from matplotlib.figure import Figure
from numpy.typing import NDArray

from apps.bench.load import Load
from apps.bench.summary import Summary

__all__ = ["render_page"]

Column = NDArray[np.float64]
_SIZE = (6.4, 3.2)
_MAX_SECONDS = 120
"""Points of the plot over time."""
_MAX_POINTS = 300
"""Of the plot by percentile."""


def render_page(summary: Summary, load: Load) -> str:
    """HTML that needs nothing else."""
    source = files("apps").joinpath("assets/bench.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(source)
    spreads = {
        "latency": summary.latency_ms,
        "queue": summary.queue_ms,
        "inference": summary.inference_ms,
        "first token": summary.first_token_ms,
        "between tokens": summary.between_tokens_ms,
    }
    return page.render(
        summary=summary,
        spreads={name: spread for name, spread in spreads.items() if spread is not None},
        plots=_plots(load),
    )


def _plots(load: Load) -> list[str]:
    records = load.records
    start, end = records.column("start"), records.column("end")
    chosen = (start >= load.begins_at) & (records.column("code") == 0)
    if not chosen.any():
        return []
    latency_ms = (end - start)[chosen] * 1e3
    return [
        _over_time(start[chosen] - load.begins_at, latency_ms, load.plan.duration_s),
        _by_percentile(latency_ms),
    ]


def _over_time(at_s: Column, latency_ms: Column, duration_s: float) -> str:
    num = int(min(_MAX_SECONDS, max(10.0, duration_s)))
    edges = np.linspace(0.0, duration_s, num + 1)
    place = np.clip(np.searchsorted(edges, at_s, side="right") - 1, 0, num - 1)
    parts = [latency_ms[place == number] for number in range(num)]
    figure, axes = _axes("seconds", "latency, ms")
    for percentile in (50, 99):
        values = [np.percentile(part, percentile) if len(part) else np.nan for part in parts]
        axes.plot((edges[:-1] + edges[1:]) / 2, values, label=f"p{percentile}")
    rates = axes.twinx()
    rates.plot(
        (edges[:-1] + edges[1:]) / 2,
        [len(part) * num / duration_s for part in parts],
        color="0.6",
        linestyle=":",
    )
    rates.set_ylabel("requests/s (dotted)")
    axes.set_ylim(bottom=0)
    rates.set_ylim(bottom=0)
    axes.legend()
    return _svg(figure)


def _by_percentile(latency_ms: Column) -> str:
    """The tail on a scale on which every further nine is as far."""
    figure, axes = _axes("percentile", "latency, ms")
    ordered, num = np.sort(latency_ms), len(latency_ms)
    # how many are as slow or slower, from all down to one; a page needs no point for each
    slower = np.unique(np.geomspace(1, num, _MAX_POINTS).astype(int))[::-1]
    axes.plot(num / slower, ordered[num - slower])
    axes.set_xscale("log")
    shown = [tick for tick in (0.5, 0.9, 0.99, 0.999, 0.9999) if 1 / (1 - tick) <= num]
    axes.set_xticks([1 / (1 - tick) for tick in shown], [f"{tick * 100:g}" for tick in shown])
    axes.set_xticks([], minor=True)
    axes.set_ylim(bottom=0)
    return _svg(figure)


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    return figure, axes


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg")
    text = out.getvalue()
    return text[text.index("<svg") :]
