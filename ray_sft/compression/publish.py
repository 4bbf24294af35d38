"""What a search has chosen, as a bundle of its own."""

import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from ray_sft.bundle import Bundle, BundleWriter
from ray_sft.compression.front import Tried
from ray_sft.compression.kernels import KernelTiming
from ray_sft.compression.record import card_row
from ray_sft.evaluation import model_card

__all__ = ["publish"]


def publish(
    best: Tried, source: Bundle, path: Path, *, timings: Sequence[KernelTiming] = ()
) -> Bundle:
    """Copies the last bundle of a candidate to ``path``.

    Its parent is the source, its card shows every bundle between them, and its manifest has the
    ``timings`` that precisions were chosen by.
    """
    chosen = Bundle.open(best.reports[-1].path)
    properties = chosen.manifest.properties | {
        "candidate": best.candidate.model_dump(mode="json"),
        "steps": [report.name for report in best.reports[1:]],
        "kernels": [one.model_dump(mode="json") for one in timings],
        "machine": f"{platform.processor() or platform.machine()}, {platform.system()}",
    }
    manifest = chosen.manifest.model_copy(
        update={"variant": path.name, "parent": source.fingerprint, "properties": properties}
    )
    rows = {report.variant: card_row(report) for report in best.reports[:-1]}
    rows[path.name] = card_row(best.reports[-1])
    with BundleWriter(path) as out:
        out.copy_processor(chosen)
        shutil.copytree(chosen.model_dir, out.model_dir, dirs_exist_ok=True)
        out.write_samples(chosen.samples())
        out.write_card(model_card(manifest, rows))
        return out.finish(manifest)
