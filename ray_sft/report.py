"""The report of a run: ``report.json`` with every number, ``report.html`` with tables and plots."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment
from matplotlib.figure import Figure

from ray_sft.run_folder import RunFolder, StageReport, write_whole

__all__ = ["write_report"]

matplotlib.use("svg")


def write_report(folder: RunFolder, name: str, reports: Sequence[StageReport]) -> None:
    """Writes both files for the stages of a run."""
    tree = {"name": name, "stages": [report.model_dump(mode="json") for report in reports]}
    write_whole(folder.path / "report.json", json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
    template = Path(__file__).with_suffix(".html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(template)
    html = page.render(
        name=name, stages=reports, data=list(_data_tables(reports)), plots=_plots(folder, reports)
    )
    write_whole(folder.path / "report.html", html)


def _data_tables(reports: Sequence[StageReport]) -> list[tuple[str, str, Mapping[str, Any]]]:
    return [
        (report.stage, split, counts)
        for report in reports
        for split, counts in report.details.get("splits", {}).items()
    ]


def _plots(folder: RunFolder, reports: Sequence[StageReport]) -> list[tuple[str, str]]:
    plots = []
    for report in reports:
        stage = report.stage.removeprefix("train-")
        path = folder.train_dir(stage) / "metrics.jsonl"
        if report.stage.startswith("train-") and path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            plots.append((f"{stage}: loss", _loss_plot([json.loads(line) for line in lines])))
    return plots


def _loss_plot(records: Sequence[Mapping[str, Any]]) -> str:
    """Loss by step as SVG; where a resumed run repeats a step, the later record counts."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for event, style in (("step", "-"), ("evaluation", "o")):
        losses = {r["step"]: r["loss"] for r in records if r["event"] == event}
        axes.plot(sorted(losses), [losses[step] for step in sorted(losses)], style, label=event)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats)")
    axes.legend()
    out = io.StringIO()
    figure.savefig(out, format="svg")
    svg = out.getvalue()
    return svg[svg.index("<svg") :]
