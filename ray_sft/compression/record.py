"""What is written down about a compressed bundle: its manifest and its row in the model card."""

from collections.abc import Mapping
from typing import Any

from ray_sft.bundle import Bundle, Manifest
from ray_sft.compression.base import Pass
from ray_sft.compression.report import StepReport

__all__ = ["card_row", "complete_manifest", "draft_manifest"]


def draft_manifest(parent: Bundle, step: Pass, *, variant: str) -> Manifest:
    """The manifest of what ``step`` makes of ``parent``, before anything is measured."""
    return parent.manifest.model_copy(
        update={
            "variant": variant,
            "format": step.produces,
            "parent": parent.fingerprint,
            "metrics": {},
            "properties": {},
            "files": {},
        }
    )


def complete_manifest(
    draft: Manifest, step: Pass, report: StepReport, properties: Mapping[str, Any]
) -> Manifest:
    """The manifest with what was measured on the very bundle."""
    measured = report.model_dump(exclude={"name", "variant", "path", "metrics"})
    made = {"made_by": step.kind, "precision": step.precision}
    return draft.model_copy(
        update={
            "metrics": report.metrics,
            "properties": {**made, **measured, **properties},
        }
    )


def card_row(report: StepReport) -> dict[str, float | str]:
    """A row of the model card's table."""
    counts = ("num_rows", "num_targets")
    metrics = {
        name: value for name, value in report.metrics.items() if name.split("/")[-1] not in counts
    }
    return {
        **metrics,
        "size (MB)": report.num_bytes / 1e6,
        "p50 (ms)": report.p50_ms,
        report.throughput_unit: report.throughput,
        "speed-up": report.speedup_over_source,
        "threads": report.num_threads,
    }
