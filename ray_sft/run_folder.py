"""The folder of a run: where everything lies, and which stages are already done.

A stage is done when its record names the fingerprint of what went into it and its outputs are
there. Records are written last and whole, so an interrupted stage is simply run again.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from ray_sft.core import BundleError, Config
from ray_sft.core.whole_files import write_whole, writing_to

__all__ = ["RunFolder", "StageReport", "fingerprint", "served_bundles", "trained_bundle"]


class StageReport(Config):
    """What one stage cost and brought."""

    stage: str
    """Its name."""
    seconds: float
    """Wall-clock time when it ran."""
    size_bytes: int | None = None
    """Size of the model it left."""
    quality: dict[str, float] = Field(default_factory=dict)
    """Figures on the evaluation data."""
    speed: dict[str, float] = Field(default_factory=dict)
    """Figures of speed, with their unit in the name."""
    details: dict[str, Any] = Field(default_factory=dict)
    """Counts and lists that belong into the report."""
    cached: bool = False
    """Whether the stage was not run again because its inputs have not changed."""


def fingerprint(*parts: object) -> str:
    """SHA-256 over the JSON of some values."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class RunFolder:
    """Paths of a run, and the records of its stages."""

    def __init__(self, path: Path) -> None:
        """The run in ``path``, which is made when it is missing."""
        self.path = path.resolve()
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def bundles_dir(self) -> Path:
        """One folder per variant."""
        return self.path / "bundles"

    @property
    def rejected(self) -> Path:
        """The rows that could not be used, with their reasons, as JSON lines."""
        return self.path / "rejected.jsonl"

    def data_dir(self, stage: str) -> Path:
        """Encoded shards of a stage."""
        return self.path / "data" / stage

    def train_dir(self, stage: str) -> Path:
        """Checkpoints, records and event files of a stage."""
        return self.path / "train" / stage

    def finished(self, stage: str, inputs: str) -> StageReport | None:
        """The report of a stage that ran on the same inputs, or None."""
        path = self._record(stage)
        if not path.is_file():
            return None
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["inputs"] != inputs:
            return None
        return StageReport.model_validate(record["report"] | {"cached": True})

    def begin(self, stage: str) -> None:
        """Forgets that a stage was done, since its outputs are about to be written anew."""
        self._record(stage).unlink(missing_ok=True)

    def finish(self, report: StageReport, inputs: str) -> None:
        """Records that a stage is done.

        Raises:
            DataError: the disk is full, or the folder cannot be written.
        """
        record = {"inputs": inputs, "report": report.model_dump(mode="json")}
        with writing_to(self.path):
            write_whole(self._record(report.stage), json.dumps(record, indent=2))

    def write_recipe(self, tree: Mapping[str, Any]) -> None:
        """Writes the resolved recipe.

        Raises:
            DataError: the disk is full, or the folder cannot be written.
        """
        text = yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True)
        with writing_to(self.path):
            write_whole(self.path / "recipe.yaml", text)

    def _record(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"


def served_bundles(paths: Sequence[Path]) -> dict[str, str]:
    """Model name -> bundle folder for bundles and run folders, of which the smallest is taken.

    Raises:
        BundleError: a path is neither, or two bundles have the same name.
    """
    found: dict[str, str] = {}
    for path in paths:
        bundle = _smallest_bundle(path)
        name = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["name"]
        if name in found:
            raise BundleError(
                f"'{found[name]}' and '{bundle}' both hold model '{name}'. Serve one of them."
            )
        found[name] = str(bundle)
    return found


def trained_bundle(path: Path) -> Path | None:
    """A bundle itself, or the trained one of a run folder; None where there is neither."""
    for folder in (path, path / "bundles" / "trained"):
        if (folder / "manifest.json").is_file():
            return folder
    return None


def _smallest_bundle(path: Path) -> Path:
    if (path / "manifest.json").is_file():
        return path.resolve()
    for variant in (
        *_found_variants(path),
        *_compressed_variants(path),
        "int4",
        "int8",
        "onnx",
        "trained",
    ):
        if (path / "bundles" / variant / "manifest.json").is_file():
            return (path / "bundles" / variant).resolve()
    raise BundleError(
        f"'{path}' is neither a bundle nor the folder of a finished run. Run the recipe first."
    )


def _found_variants(path: Path) -> list[str]:
    """What a search has made of the trained model as it is now."""
    found, source = (
        path / "bundles" / variant / "manifest.json" for variant in ("compressed", "trained")
    )
    if not found.is_file() or not source.is_file():
        return []
    parent = json.loads(found.read_text(encoding="utf-8"))["parent"]
    is_current = parent == hashlib.sha256(source.read_bytes()).hexdigest()
    return ["compressed"] if is_current else []


def _compressed_variants(path: Path) -> list[str]:
    """The last bundle of the chain that the run finished, if there was one."""
    record = path / "stages" / "compress.json"
    if not record.is_file():
        return []
    details = json.loads(record.read_text(encoding="utf-8"))["report"]["details"]
    return [Path(step["path"]).name for step in details["steps"][-1:]]
