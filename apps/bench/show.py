"""The figures for people: a line while the load runs, a table at its end."""

import asyncio
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from apps.bench.load import Load
from apps.bench.summary import Spread, Summary

__all__ = ["show_progress", "show_summary"]

_EVERY_S = 0.25
_RECENT = 512
"""Requests of which the line tells the latency."""


async def show_progress(load: Load, console: Console) -> None:
    """Draws one line, again and again, until it is cancelled; nothing where there is no screen."""
    if not console.is_terminal:
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}")
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=load.plan.duration_s, figures="")
        num_before, looked_at = 0, perf_counter()
        while True:
            await asyncio.sleep(_EVERY_S)
            now, num = perf_counter(), len(load.records)
            rate = (num - num_before) / (now - looked_at)
            num_before, looked_at = num, now
            progress.update(
                task,
                description=_phase(load, now),
                completed=min(max(now - load.begins_at, 0.0), load.plan.duration_s),
                figures=_figures(load, rate),
            )
            progress.refresh()


def show_summary(summary: Summary, console: Console) -> None:
    """Prints everything, a warning included."""
    console.print(_heading(summary))
    console.print(_rates(summary))
    console.print(_spreads(summary))
    if summary.errors:
        console.print(_counts(summary))
    if summary.unsent > summary.connections:  # fewer are those of the last moment
        console.print(
            f"{summary.unsent:,} requests were never sent: the service did not keep up with "
            f"{summary.rate:g} a second over {summary.connections} connections.",
            style="yellow",
            highlight=False,
        )
    own = summary.generator
    used = f"this program used {own.core_share:.0%} of a core"
    console.print(used, style="dim", highlight=False)
    if own.warning:
        console.print(Text.assemble(("warning: ", "bold yellow"), own.warning))


def _phase(load: Load, now: float) -> str:
    if now < load.begins_at:
        return "warming up"
    return "measuring" if now < load.ends_at else "waiting for the last answers"


def _figures(load: Load, rate: float) -> str:
    records = load.records
    if not len(records):
        return "no answer yet"
    start, end = (records.column(name, last=_RECENT) for name in ("start", "end"))
    p50, p99 = np.percentile((end - start) * 1e3, (50, 99))
    return f"{rate:,.0f}/s  p50 {p50:.1f} ms  p99 {p99:.1f} ms  failed {records.num_failed:,}"


def _heading(summary: Summary) -> Text:
    how = f"{summary.connections} connections, each waits for its answer"
    if summary.rate is not None:
        how = f"{summary.rate:g} requests a second ({summary.arrivals}), latency from when they "
        how += f"were due, {summary.connections} connections"
    texts = f", {summary.texts_per_request} texts a request" * (summary.texts_per_request > 1)
    return Text(f"{summary.url}, {summary.route}: {how}{texts}, {summary.duration_s:g} s")


def _rates(summary: Summary) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("requests/s", f"{summary.requests_per_s:,.1f}", f"{summary.requests:,} answered")
    if summary.texts_per_s is not None:
        table.add_row("texts/s", f"{summary.texts_per_s:,.1f}")
    table.add_row("tokens/s", f"{summary.tokens_per_s:,.1f}")
    return table


def _spreads(summary: Summary) -> Table:
    table = Table("", "p50", "p90", "p95", "p99", "max", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    rows = (
        ("latency, ms", summary.latency_ms),
        ("  queue", summary.queue_ms),
        ("  inference", summary.inference_ms),
        ("batch, texts", summary.batch_size),
        ("first token, ms", summary.first_token_ms),
        ("between tokens, ms", summary.between_tokens_ms),
    )
    for name, spread in rows:
        if spread is not None:
            table.add_row(name, *_cells(spread))
    return table


def _cells(spread: Spread) -> list[str]:
    values = (spread.p50, spread.p90, spread.p95, spread.p99, spread.max)
    return [f"{value:,.2f}" if value < 100 else f"{value:,.0f}" for value in values]


def _counts(summary: Summary) -> Table:
    table = Table("failed", "requests", "first message", box=None, pad_edge=False)
    for code, count in summary.errors.items():
        table.add_row(Text(code), f"{count:,}", Text(summary.messages.get(code, "")))
    statuses = ", ".join(f"{name}: {count:,}" for name, count in summary.statuses.items())
    table.caption = f"replies by status: {statuses}"
    table.caption_justify = "left"
    return table
