"""Reading bundles: nothing is loaded from one before its hashes are checked."""

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ray_sft.bundle.manifest import MANIFEST, SCHEMA_VERSION, FileEntry, Manifest, hash_file
from ray_sft.core import BundleError
from ray_sft.tasks import Task

__all__ = ["Bundle", "former_path"]

_REPLACED_RETRIES = 20

_FORBIDDEN_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".so", ".dll", ".py")


@dataclass(frozen=True, slots=True)
class Bundle:
    """An immutable folder that holds one model: weights, processor, tasks and samples."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> "Bundle":
        """The bundle in a folder, every file checked against the manifest.

        Raises:
            BundleError: no such folder, no manifest, a manifest of another schema version, a
                missing, changed, unexpected or executable file.
        """
        folder = Path(path)
        for _ in range(_REPLACED_RETRIES):
            before = _identity(folder)
            try:
                return cls._open_once(folder)
            except (BundleError, FileNotFoundError):
                if _identity(folder) == before and not former_path(folder).exists():
                    raise
                time.sleep(0.02)  # a writer was putting a new bundle in its place
        return cls._open_once(folder)

    @classmethod
    def _open_once(cls, folder: Path) -> "Bundle":
        bundle = cls(folder, _read_manifest(folder))
        bundle._check_files()
        return bundle

    @property
    def model_dir(self) -> Path:
        """Weights: safetensors with a configuration, or graphs for ONNX Runtime."""
        return self.path / "model"

    @property
    def processor_dir(self) -> Path:
        """What `ray_sft.models.load_processor` reads."""
        return self.path / "processor"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the manifest, which names the hash of every file."""
        return hash_file(self.path / MANIFEST)

    @property
    def weights_fingerprint(self) -> str:
        """SHA-256 of the model's files: equal for equal ones, whenever they were written."""
        hashes = sorted(f"{name} {entry.sha256}" for name, entry in self._model_files())
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    @property
    def num_bytes(self) -> int:
        """Size of the model's files."""
        return sum(entry.num_bytes for _, entry in self._model_files())

    def _model_files(self) -> Iterator[tuple[str, FileEntry]]:
        files = self.manifest.files.items()
        return ((name, entry) for name, entry in files if name.startswith("model/"))

    @property
    def task(self) -> Task:
        """The only task of a single-task bundle."""
        name, *others = self.manifest.tasks
        assert not others, "a bundle of several tasks has no single task"
        return self.manifest.tasks[name]

    @property
    def is_decoder(self) -> bool:
        """Whether the model generates text."""
        return any(task.head == "causal_lm" for task in self.manifest.tasks.values())

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the model writes one text for another."""
        return any(task.head == "seq2seq_lm" for task in self.manifest.tasks.values())

    def samples(self, task: str = "") -> Iterator[dict[str, Any]]:
        """Pairs of ``request`` and expected ``response``, of one ``task`` or of all."""
        with (self.path / "samples.jsonl").open(encoding="utf-8") as file:
            for line in file:
                sample = json.loads(line)
                if not task or sample.get("task", task) == task:
                    yield sample

    def _check_files(self) -> None:
        present = {
            str(file.relative_to(self.path)): file
            for file in sorted(self.path.rglob("*"))
            if file.is_symlink() or not file.is_dir()
        }
        present.pop(MANIFEST, None)
        listed = self.manifest.files
        if missing := sorted(set(listed) - set(present)):
            raise BundleError(f"bundle '{self.path}' lacks {missing[0]}. Make it again.")
        if unknown := sorted(set(present) - set(listed)):
            raise BundleError(
                f"bundle '{self.path}' holds '{unknown[0]}', which its manifest does not list. "
                "Take the file away or make the bundle again."
            )
        for name, entry in listed.items():
            file = present[name]
            if file.is_symlink() or file.suffix.lower() in _FORBIDDEN_SUFFIXES:
                raise BundleError(
                    f"bundle '{self.path}': '{name}' may not be in a bundle, which holds no links "
                    "and nothing that runs code when it is loaded."
                )
            if file.stat().st_size != entry.num_bytes or hash_file(file) != entry.sha256:
                raise BundleError(
                    f"bundle '{self.path}' is damaged: '{name}' does not have the hash that its "
                    "manifest states. Copy it again from its source or make it again."
                )


def former_path(path: Path) -> Path:
    """Where a writer keeps the bundle that it is about to replace."""
    return path.with_name(f".{path.name}.former")


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns  # a new folder may get the inode of a removed one


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(f"bundle '{folder}' does not exist. Run the recipe that makes it.")
    if not path.is_file() or path.is_symlink():
        raise BundleError(
            f"'{folder}' is no bundle: it has no {MANIFEST}. A run that was interrupted leaves "
            "none; run it again."
        )
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        found = tree.get("schema_version")
        if found != SCHEMA_VERSION:
            raise BundleError(
                f"bundle '{folder}' has schema version {found}; this version of ray-sft reads "
                f"{SCHEMA_VERSION}."
            )
        return Manifest.model_validate(tree)
    except (ValueError, AttributeError, ValidationError) as error:
        raise BundleError(f"bundle '{folder}' has a damaged {MANIFEST}: {error}") from None
