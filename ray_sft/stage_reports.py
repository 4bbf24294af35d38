"""What each kind of stage puts into the report of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from ray_sft.bundle import Bundle, Manifest
from ray_sft.compression import StepReport
from ray_sft.data import DataSummary
from ray_sft.evaluation import Detail, retention
from ray_sft.run_folder import StageReport

__all__ = ["bundle_report", "data_report", "splits_of", "train_report"]


def data_report(stage: str, summary: DataSummary) -> StageReport:
    """Counts of rows by what became of them."""
    return StageReport(stage=f"data-{stage}", seconds=0, details=summary.model_dump(mode="json"))


def splits_of(report: StageReport) -> dict[str, Mapping[str, Any]]:
    """What a data stage found, by what people call the split; nothing of other stages."""
    splits: Mapping[str, Mapping[str, Any]] = report.details.get("splits", {})
    window = report.details.get("window")
    titles = {"train": f"train, first {window:,} rows"} if window else {}
    return {titles.get(split, split): summary for split, summary in splits.items()}


def train_report(
    stage: str,
    bundle: Bundle,
    records: Sequence[Mapping[str, Any]],
    details: Mapping[str, Detail],
) -> StageReport:
    """Figures of the trained bundle with what lies behind them, and the median speed of a step."""
    steps = [record for record in records if record["event"] == "step"]
    starts = [record for record in records if record["event"] == "start"]
    rates = sorted(float(record["tokens_per_s"]) for record in steps)
    return StageReport(
        stage=f"train-{stage}",
        seconds=0,
        size_bytes=bundle.num_bytes,
        quality=_quality(bundle.manifest.metrics | _retained(bundle.manifest)),
        speed={"tokens_per_s": rates[len(rates) // 2]} if rates else {},
        details={
            "num_steps": int(steps[-1]["step"]) if steps else 0,
            **{name: starts[-1][name] for name in ("num_parameters", "num_trained") if starts},
            # of all positions that were computed, so that a change of packing can be judged
            "padding": sum(record["padding"] for record in steps) / max(1, len(steps)),
            "trainings": _trainings(bundle.manifest),
            "tasks": {name: detail.model_dump(mode="json") for name, detail in details.items()},
        },
    )


def _trainings(manifest: Manifest) -> list[dict[str, Any]]:
    """By training, the oldest first, and task: the main figure after it and after later ones."""
    if len(manifest.experiences) < 2:
        return []
    return [
        {"name": one.name, "task": task, "figures": [found[task] for found in one.figures]}
        for task in manifest.tasks
        for one in manifest.experiences
    ]


def _retained(manifest: Manifest) -> dict[str, float]:
    """By task, what is left of earlier trainings; nothing where there were none."""
    trainings = _trainings(manifest)
    figures: dict[str, float] = {}
    for name, task in manifest.tasks.items():
        main, direction = task.main_metric
        rows = [training["figures"] for training in trainings if training["task"] == name]
        if rows:
            found = retention(rows, higher_is_better=direction == "max")
            figures[f"{name}/average_{main}"] = found.pop("average")
            figures |= {f"{name}/{figure}": value for figure, value in found.items()}
    return figures


def bundle_report(step: StepReport, *, cached: bool) -> StageReport:
    """A row of the table for one bundle of the chain; its time is part of the stage's."""
    return StageReport(
        stage=f"bundle-{step.variant}",
        seconds=0,
        size_bytes=step.num_bytes,
        quality=_quality(step.metrics),
        speed={
            "p50_ms": step.p50_ms,
            step.throughput_unit: step.throughput,
            "speedup": step.speedup_over_source,
        },
        details=step.model_dump(mode="json"),
        cached=cached,
    )


def _quality(metrics: Mapping[str, float]) -> dict[str, float]:
    """Figures by name; of several tasks with the task before it, the counts left out."""
    tasks = {name.partition("/")[0] for name in metrics}
    if len(tasks) == 1:
        return {name.partition("/")[2]: value for name, value in metrics.items()}
    return {k: v for k, v in metrics.items() if not k.partition("/")[2].startswith("num_")}
