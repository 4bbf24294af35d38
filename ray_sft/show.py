"""What a person sees of a run: progress bars while it lasts, a table at its end."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ray_sft.recipe import Recipe
from ray_sft.run_folder import RunFolder, StageReport
from ray_sft.tasks.entity_metrics import entity_table

__all__ = ["ProgressWatcher", "show_recipe", "show_reports"]

logger = logging.getLogger(__name__)


class ProgressWatcher:
    """A bar for the stage that runs; training fills it step by step."""

    def __init__(self, console: Console) -> None:
        """Draws on ``console``."""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        """Starts to draw."""
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Takes the bar away."""
        self._progress.stop()

    def started(self, stage: str) -> None:
        """See `Watcher.started`."""
        logger.info("%s ...", stage)
        self._task = self._progress.add_task(stage, total=None, figures="")

    def record(self, stage: str, record: Mapping[str, Any]) -> None:
        """See `Watcher.record`."""
        if self._task is None:
            return
        step = int(record["step"])
        if record["event"] == "start":
            self._progress.update(self._task, total=record["num_steps"], completed=step)
            if (trained := record["num_trained"]) < (whole := record["num_parameters"]):
                share = trained / whole
                logger.info(
                    "%s: trains %d of %d parameters, %.2f%%", stage, trained, whole, 100 * share
                )
            if step:
                logger.info("%s: resumed at step %d of %d", stage, step, record["num_steps"])
        elif record["event"] == "step":
            figures = _progress_figures(record)
            self._progress.update(self._task, completed=step, figures=figures)
            logger.debug("%s: step %d %s", stage, step, figures)
        elif record["event"] == "checkpoint":
            logger.debug("%s: step %d saved in %.2f s", stage, step, record["stall_s"])
        elif record["event"] == "end":
            best = int(record["best_step"])
            logger.info("%s: ends at step %d, the best being step %d", stage, step, best)
        else:
            named = {k: v for k, v in record.items() if k not in ("event", "step", "elapsed_s")}
            logger.info("%s: step %d, evaluation: %s", stage, step, _figures(named))

    def note(self, text: str) -> None:
        """See `Watcher.note`."""
        logger.info("%s", text)

    def finished(self, report: StageReport) -> None:
        """See `Watcher.finished`."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        state = "already done" if report.cached else f"done in {report.seconds:.0f} s"
        logger.info("%s: %s%s", report.stage, state, _after(", ", _figures(report.quality)))


def _progress_figures(record: Mapping[str, Any]) -> str:
    """What a training step says of itself, in a line."""
    seconds = record["num_tokens"] / record["tokens_per_s"]
    parts = (
        f"loss {record['loss']:.3f}",
        f"{record['tokens_per_s']:,.0f} tokens/s",
        f"padding {record['padding']:.0%}",
        f"wait {record['data_wait_s'] / seconds:.0%}",
        f"{record['memory_gb']:.1f} GB",
    )
    return ", ".join(parts)


def show_reports(console: Console, folder: RunFolder, reports: Sequence[StageReport]) -> None:
    """The table of stages and where to look further."""
    table = Table(title=str(folder.path.name))
    for column in ("stage", "time", "size", "quality", "speed"):
        table.add_column(column, justify="right" if column in ("time", "size") else "left")
    for report in reports:
        size = f"{report.size_bytes / 1e6:.1f} MB" if report.size_bytes else ""
        time = f"{report.seconds:.1f} s" if report.seconds else ""
        time = "already done" if report.cached and time else time
        table.add_row(report.stage, time, size, _figures(report.quality), _figures(report.speed))
    console.print(table)
    last = reports[-1] if reports else StageReport(stage="", seconds=0)
    for name, figures in _by_task(last.quality).items():
        if any(figure.startswith("f1[") for figure in figures):
            console.print(_label_table(f"{last.stage} {name}".strip(), figures))
    for report in reports:
        if trainings := report.details.get("trainings"):
            console.print(_trainings_table(report.stage, trainings))
    console.print(f"report: {folder.path / 'report.html'}", soft_wrap=True)


def _by_task(quality: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Figures by task, which has no name where there is only one."""
    found: dict[str, dict[str, float]] = {}
    for name, value in quality.items():
        task, _, figure = name.rpartition("/")
        found.setdefault(task, {})[figure] = value
    return found


def _label_table(title: str, figures: Mapping[str, float]) -> Table:
    """Precision, recall and F1 of every entity type."""
    table = Table(title=title)
    table.add_column("label")
    for column in ("precision", "recall", "f1", "support"):
        table.add_column(column, justify="right")
    for row in entity_table(figures):
        shares = (f"{share:.4f}" for share in (row.precision, row.recall, row.f1))
        table.add_row(Text(row.label), *shares, str(row.support))
    return table


def _trainings_table(stage: str, trainings: Sequence[Mapping[str, Any]]) -> Table:
    """What became of the main figure on the rows of each training."""
    table = Table(title=f"{stage}: what is left of each training")
    for column in ("training", "task"):
        table.add_column(column)
    for column in ("just after", "before this one", "now"):
        table.add_column(column, justify="right")
    for training in trainings:
        figures = training["figures"]
        before = f"{figures[-2]:.4f}" if len(figures) > 1 else ""
        cells = (Text(training["name"]), Text(training["task"]), f"{figures[0]:.4f}", before)
        table.add_row(*cells, f"{figures[-1]:.4f}")
    return table


def show_recipe(console: Console, recipe: Recipe) -> None:
    """What a run of the recipe would do."""
    table = Table(title=recipe.name)
    for column in ("stage", "task", "rows", "train"):
        table.add_column(column)
    for stage in recipe.stages():
        for name, task in stage.tasks.items():
            labels = getattr(task, "labels", ())
            kind = f"{name}: {task.kind}" + (f", {len(labels)} labels" if labels else "")
            rows = "\n".join(f"{split}: {s.title}" for split, s in stage.data[name].items().items())
            train = stage.train
            length = f"{train.steps} steps" if train.steps else f"{train.epochs} epochs"
            streamed = f" on windows of {train.window:,} rows" if train.window else ""
            plan = (
                f"{length}{streamed}, {train.tokens_per_step} tokens a step, "
                f"{train.workers} workers, ZeRO {train.zero_stage}, {train.precision}"
            )
            table.add_row(stage.name, kind, rows, plan)
    console.print(table)
    passes = recipe.compress.passes if recipe.compress else ()
    console.print(f"compress: {', '.join(item.kind for item in passes) or 'nothing'}")
    console.print("The recipe and its data are usable.")


def _figures(figures: Mapping[str, Any]) -> str:
    """Figures in a line; those of single labels have a table of their own."""
    shown = {name: value for name, value in figures.items() if "[" not in name}
    return ", ".join(f"{name} {_figure(value)}" for name, value in shown.items())


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and value > 1 else f"{value:.4g}"
    return str(value)


def _after(sign: str, text: str) -> str:
    return sign + text if text else ""
