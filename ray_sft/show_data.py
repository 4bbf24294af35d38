"""What a person sees of the rows of a recipe before anything is trained."""

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ray_sft.preflight import Preflight
from ray_sft.run_folder import StageReport
from ray_sft.stage_reports import splits_of

__all__ = ["show_data", "show_preflight"]

_BLOCKS = " ▁▂▃▄▅▆▇█"
_MOST_LABELS = 10
_MOST_REJECTED = 5


def show_data(console: Console, reports: Sequence[StageReport], rejected: Path) -> None:
    """Counts, lengths, labels, languages, changes and rejected rows of every data stage.

    Args:
        console: where to print.
        reports: the stages of a run; those that are no data stages are left out.
        rejected: the file of rejected rows.
    """
    for report in reports:
        if splits := splits_of(report):
            console.print(_picture(report.stage.removeprefix("data-"), splits))
            if shared := report.details["num_shared"]:
                console.print(
                    f"{shared} evaluation rows stand in the training data too; such rows flatter "
                    "the figures (quality.leaks: remove)."
                )
            _show_changes(console, report.details["augmentations"])
    _show_rejected(console, rejected)


def show_preflight(console: Console, stage: str, found: Preflight, *, zero_stage: int) -> None:
    """Examples with what is learned of them, memory, DeepSpeed's settings, and what looks wrong.

    Args:
        console: where to print.
        stage: what the examples and the memory are of.
        found: by `ray_sft.preflight`.
        zero_stage: that the recipe asks for.
    """
    for rendered in found.examples:
        text = Text(f"  {rendered.task}: ")
        for piece, is_supervised in rendered.pieces:
            text.append(piece, "bold green" if is_supervised else "dim")
            text.append(" ")
        console.print(text)
    if any(mark for rendered in found.examples for _, mark in rendered.pieces):
        console.print(Text("  (bold green: what is learned)", "dim"))
    table = Table(title=f"{stage}: memory of a worker, estimated, in GB")
    for column in ("ZeRO", "weights", "gradients", "optimizer", "activations", "together"):
        table.add_column(column, justify="right")
    for number, one in found.memory.items():
        parts = (one.weights, one.gradients, one.optimizer, one.activations, one.total)
        style = "bold" if number == zero_stage else "dim"
        table.add_row(str(number), *(f"{part / 1e9:.2f}" for part in parts), style=style)
    console.print(table)
    console.print(Text(f"{stage}: DeepSpeed is given {json.dumps(found.deepspeed)}", "dim"))
    for warning in found.warnings:
        console.print(Text("look at this: ", "yellow") + Text(warning))


_COUNTS = {
    "num_rows": "rows",
    "num_accepted": "used",
    "num_augmented": "changed copies",
    "num_rejected_copies": "changed copies rejected",
    "num_rejected": "rejected",
    "num_left_out": "left out by the recipe",
    "num_truncated": "cut at the end",
    "num_duplicates": "said before",
    "num_conflicts": "said before, other label",
    "num_tokens": "tokens",
}


def _picture(title: str, splits: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(title=title)
    table.add_column("")
    for split in splits:
        table.add_column(split, justify="right")
    for name, shown in _COUNTS.items():
        values = [summary.get(name, 0) for summary in splits.values()]
        if any(values):
            table.add_row(shown, *(f"{value:,}" for value in values))
    table.add_section()
    for shown, tell in (("lengths", _lengths), ("languages", _languages), ("labels", _labels)):
        told = [Text(tell(summary)) for summary in splits.values()]
        if any(told):
            table.add_row(shown, *told)
    return table


def _lengths(summary: Mapping[str, Any]) -> str:
    low, middle, high = summary["lengths"]["quartiles"]
    bars = _bars(summary["lengths"]["counts"])
    return f"quartiles {low}, {middle}, {high}\nlongest {summary['longest']}\n{bars}"


def _languages(summary: Mapping[str, Any]) -> str:
    total = sum(summary["languages"].values())
    shares = {name: count / total for name, count in summary["languages"].items()}
    return "\n".join(f"{name} {share:.1%}" for name, share in islice(shares.items(), 5))


def _labels(summary: Mapping[str, Any]) -> str:
    labels = summary["labels"]
    lines = [f"{label} {count:,}" for label, count in islice(labels.items(), _MOST_LABELS)]
    if rest := list(labels.items())[_MOST_LABELS:]:
        rarest, count = rest[-1]
        lines.append(f"and {len(rest)} more, down to\n{rarest} {count:,}")
    return "\n".join(lines)


def _bars(counts: Sequence[int]) -> str:
    most = max(counts)
    return "".join(_BLOCKS[-(-count * (len(_BLOCKS) - 1) // most)] for count in counts)


def _show_changes(console: Console, changes: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    for kind, examples in changes.items():
        for change in examples:
            console.print(Text.assemble(f"  {kind}: ", (change["before"], "dim")))
            console.print(Text(f"  {' ' * len(kind)}  {change['after']}"))


def _show_rejected(console: Console, path: Path) -> None:
    with path.open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in islice(file, _MOST_REJECTED)]
    for line in lines:
        name = f" (id {line['id']})" if line["id"] else ""
        console.print(
            Text(f"rejected: {line['data']}, file {line['file']}, row {line['row']}{name}: ")
            + Text(line["reason"], "yellow")
        )
