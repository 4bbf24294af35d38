"""The report of a run: ``report.json`` with every number, ``report.html`` with tables and plots."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from ray_sft.core.whole_files import write_whole
from ray_sft.plots import new_axes, svg
from ray_sft.run_folder import RunFolder, StageReport
from ray_sft.stage_reports import splits_of
from ray_sft.training_plots import (
    calibration_plot,
    confusion_plot,
    learning_rate_plot,
    loss_plot,
    trainings_plot,
)

__all__ = ["write_report"]

_MOST_BARS = 30
_LONGEST_NAME = 60


def write_report(folder: RunFolder, name: str, reports: Sequence[StageReport]) -> None:
    """Writes both files for the stages of a run."""
    tree = {"name": name, "stages": [report.model_dump(mode="json") for report in reports]}
    write_whole(folder.path / "report.json", json.dumps(tree, indent=2, ensure_ascii=False) + "\n")
    template = Path(__file__).with_suffix(".html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True).from_string(template)
    html = page.render(
        name=name,
        stages=reports,
        data=_data_tables(reports),
        changes=_changes(reports),
        details=_details(reports),
        plots=_plots(folder, reports),
    )
    write_whole(folder.path / "report.html", html)


def _data_tables(reports: Sequence[StageReport]) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        (f"{report.stage}, {split}", {k: v for k, v in counts.items() if not isinstance(v, dict)})
        for report in reports
        for split, counts in splits_of(report).items()
    ]


def _changes(reports: Sequence[StageReport]) -> list[tuple[str, str, Mapping[str, str]]]:
    """Texts before and after, by stage and operation."""
    return [
        (report.stage, kind, change)
        for report in reports
        for kind, changes in report.details.get("augmentations", {}).items()
        for change in changes
    ]


def _plots(folder: RunFolder, reports: Sequence[StageReport]) -> list[tuple[str, str]]:
    plots = []
    for report in reports:
        for split, counts in splits_of(report).items():
            title = f"{report.stage}, {split}"
            plots.append((f"{title}: lengths", _length_plot(counts["lengths"])))
            for name in ("labels", "languages", "reasons"):
                if counts[name]:
                    plots.append((f"{title}: {name}", _count_plot(counts[name])))
        if report.stage.startswith("train-"):
            plots += _training_plots(folder, report)
    return plots


def _training_plots(folder: RunFolder, report: StageReport) -> list[tuple[str, str]]:
    plots = []
    stage = report.stage.removeprefix("train-")
    path = folder.train_dir(stage) / "metrics.jsonl"
    if path.is_file():
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        plots.append((f"{stage}: loss", loss_plot(records)))
        plots.append((f"{stage}: learning rate", learning_rate_plot(records)))
    if trainings := report.details.get("trainings"):
        plots.append((f"{stage}: what is left", trainings_plot(trainings)))
    for name, detail in report.details.get("tasks", {}).items():
        if detail["confusion"]:
            title = f"{stage}, {name}: what is taken for what"
            plots.append((title, confusion_plot(detail["confusion"])))
        if detail["calibration"]:
            error = detail["expected_calibration_error"]
            title = f"{stage}, {name}: calibration (expected error {error:.3f})"
            plots.append((title, calibration_plot(detail["calibration"])))
    return plots


def _details(reports: Sequence[StageReport]) -> list[tuple[str, Mapping[str, Any]]]:
    """Tables of labels and mistakes, by stage and task."""
    return [
        (f"{report.stage.removeprefix('train-')}, {name}", detail)
        for report in reports
        for name, detail in report.details.get("tasks", {}).items()
        if detail["labels"]
    ]


def _length_plot(histogram: Mapping[str, Any]) -> str:
    figure, axes = new_axes(height=2.4)
    axes.stairs(histogram["counts"], histogram["edges"], fill=True)
    axes.set_xlabel("length")
    axes.set_ylabel("rows")
    return svg(figure)


def _count_plot(counts: Mapping[str, int]) -> str:
    """The most frequent values as bars, the most frequent one on top."""
    names = list(counts)[:_MOST_BARS][::-1]
    figure, axes = new_axes(height=0.6 + 0.28 * len(names))
    bars = axes.barh([_short(name) for name in names], [counts[name] for name in names])
    axes.bar_label(bars, padding=3)
    if len(counts) > _MOST_BARS:
        axes.set_title(f"the {_MOST_BARS} most frequent of {len(counts)}", fontsize="small")
    return svg(figure)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}..."
