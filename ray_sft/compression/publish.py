"""What a search has chosen, as a bundle of its own."""

import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ray_sft.bundle import Bundle, BundleWriter
from ray_sft.compression.front import Tried
from ray_sft.compression.gates import figures_meant
from ray_sft.compression.kernels import KernelTiming
from ray_sft.compression.record import card_row
from ray_sft.evaluation import markdown_table, model_card

__all__ = ["publish"]


def publish(
    best: Tried,
    source: Bundle,
    path: Path,
    *,
    budget: Mapping[str, float],
    timings: Sequence[KernelTiming] = (),
) -> Bundle:
    """Copies the last bundle of a candidate to ``path``.

    Its parent is the source. Its card shows every bundle between them with what each gate found,
    and its manifest has the ``timings`` that precisions were chosen by.
    """
    chosen = Bundle.open(best.reports[-1].path)
    properties = chosen.manifest.properties | {
        "candidate": best.candidate.model_dump(mode="json"),
        "steps": [report.name for report in best.reports[1:]],
        "budget": dict(budget),
        "kernels": [one.model_dump(mode="json") for one in timings],
        "machine": f"{platform.processor() or platform.machine()}, {platform.system()}",
    }
    manifest = chosen.manifest.model_copy(
        update={"variant": path.name, "parent": source.fingerprint, "properties": properties}
    )
    names = [source.manifest.variant, *(report.name for report in best.reports[1:-1]), path.name]
    rows = {n: card_row(report) for n, report in zip(names, best.reports, strict=True)}
    sections = [
        "## How it was made",
        "",
        f"- From: {source.manifest.name}, {source.manifest.variant} (`{source.fingerprint[:12]}`)",
        f"- Chosen: {best.candidate}",
        f"- Budget: {_spelled(budget)}",
        f"- Machine: {properties['machine']}, {best.reports[-1].num_threads} threads",
        "",
        *_gates(best, budget),
        "",
    ]
    with BundleWriter(path) as out:
        out.copy_processor(chosen)
        shutil.copytree(chosen.model_dir, out.model_dir, dirs_exist_ok=True)
        out.write_samples(chosen.samples())
        out.write_card(model_card(manifest, rows, sections=sections))
        return out.finish(manifest)


def _gates(best: Tried, budget: Mapping[str, float]) -> list[str]:
    """A table of what was found at each step: differences of logits, and changes of figures."""
    source, *steps = best.reports
    meant = {metric for name in budget for metric in figures_meant(source.metrics, name)}
    metrics = [metric for metric in source.metrics if metric in meant]
    header = ["step", "logits from the source's", "in a batch", "with a cache", *metrics]
    rows = [
        [
            step.name,
            f"{step.parity:.2g}",
            f"{step.batching:.2g}",
            "-" if step.caching is None else f"{step.caching:.2g}",
            *(f"{step.metrics[metric] - source.metrics[metric]:+.4f}" for metric in metrics),
        ]
        for step in steps
    ]
    return markdown_table(header, rows)


def _spelled(budget: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {allowed:+g}" for name, allowed in budget.items())
