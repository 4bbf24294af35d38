"""The manifest: what a bundle is, where it came from, and the hash of every file in it."""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from pydantic import Field

from ray_sft.core import Config
from ray_sft.tasks import AnyTask

__all__ = [
    "MANIFEST",
    "SCHEMA_VERSION",
    "Experience",
    "FileEntry",
    "Format",
    "Manifest",
    "hash_file",
    "library_versions",
]

MANIFEST = "manifest.json"
SCHEMA_VERSION: Final = 1

Format: TypeAlias = Literal["torch", "onnx"]

_LIBRARIES = (
    "ray-sft",
    "ray",
    "torch",
    "deepspeed",
    "transformers",
    "onnx",
    "onnxruntime",
    "onnxruntime-genai",
)


class FileEntry(Config):
    """One file of a bundle."""

    sha256: str
    """Hexadecimal digest of the content."""
    num_bytes: int
    """Size in bytes."""


class Experience(Config):
    """A training that a model has been through, so that later ones can replay and measure it."""

    name: str
    """The recipe's name, and the stage's where it had several."""
    tasks: tuple[str, ...]
    """What was learned, by the names of the tasks."""
    data: dict[str, Any]
    """By task, where the rows of training and evaluation are, as the recipe said."""
    quality: dict[str, Any]
    """Which of these rows are used, as the recipe said."""
    figures: tuple[dict[str, float], ...]
    """By task, the main figure on the evaluation rows: just after, then after each later one."""


class Manifest(Config):
    """Written last, so a folder with a manifest is a whole bundle."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Raised when a reader of the former version could misread the folder."""
    name: str
    """The model's name in a service, such as ``customer_intents``."""
    variant: str
    """Which of the run's models this is, such as ``trained`` or ``int8``."""
    format: Format
    """``torch``: safetensors that transformers loads; ``onnx``: a graph for ONNX Runtime."""
    tasks: dict[str, AnyTask]
    """Every task of the model with its full configuration."""
    parent: str | None = None
    """SHA-256 of the manifest of the bundle that this one was made from."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """The resolved recipe of the run."""
    data: dict[str, str] = Field(default_factory=dict)
    """Fingerprints of the data, by ``task/split``."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Figures on the evaluation data, by ``task/metric``, measured on this very bundle."""
    experiences: tuple[Experience, ...] = ()
    """What the model was trained on since it was last asked to forget nothing, the oldest first."""
    properties: dict[str, Any] = Field(default_factory=dict)
    """What a pass wants to tell: precision, speed, the operators of the optimised graph."""
    libraries: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries that wrote the bundle."""
    created: str = ""
    """UTC time in ISO 8601."""
    files: dict[str, FileEntry] = Field(default_factory=dict)
    """Every file of the bundle but the manifest, by its path inside it."""


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def library_versions() -> dict[str, str]:
    """The installed versions of the libraries that shape a model."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
