"""What is written down about a compressed bundle: its manifest and its row in the model card."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray_sft.bundle import Bundle, Manifest
from ray_sft.compression.base import Pass
from ray_sft.compression.report import StepReport
from ray_sft.core import BundleError

__all__ = [
    "card_row",
    "chain_fingerprint",
    "complete_manifest",
    "draft_manifest",
    "finished_bundle",
    "recorded_report",
]


def chain_fingerprint(source: Bundle, passes: Sequence[Pass], **settings: float) -> str:
    """SHA-256 of what the last of ``passes`` makes of ``source``, and how it is measured."""
    steps = [step.model_dump(mode="json") for step in passes]
    text = json.dumps([source.fingerprint, steps, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def finished_bundle(path: Path, chain: str) -> Bundle | None:
    """The whole bundle in ``path`` if it was made by the ``chain`` of that fingerprint."""
    try:
        bundle = Bundle.open(path)
    except BundleError:
        return None
    return bundle if bundle.manifest.properties.get("chain") == chain else None


def recorded_report(bundle: Bundle) -> StepReport:
    """What was measured on a bundle when a chain made it."""
    manifest = bundle.manifest
    known = {k: v for k, v in manifest.properties.items() if k in StepReport.model_fields}
    return StepReport.model_validate(
        known
        | {
            "name": manifest.properties["made_by"],
            "variant": manifest.variant,
            "path": str(bundle.path),
            "metrics": manifest.metrics,
        }
    )


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
    draft: Manifest, step: Pass, report: StepReport, properties: Mapping[str, Any], *, chain: str
) -> Manifest:
    """The manifest with what was measured on the very bundle."""
    measured = report.model_dump(exclude={"name", "variant", "path", "metrics"})
    made = {"made_by": step.kind, "precision": step.made_precision, "chain": chain}
    return draft.model_copy(
        update={
            "metrics": report.metrics,
            "properties": {**properties, **made, **measured},
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
