"""Writing bundles: into a hidden folder first, the manifest last, one rename at the end."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ray_sft.bundle.manifest import MANIFEST, FileEntry, Manifest, hash_file, library_versions
from ray_sft.bundle.reader import Bundle, former_path
from ray_sft.core import BundleError

__all__ = ["BundleWriter"]


class BundleWriter:
    """A context in which a bundle is written; leaving it by an error leaves nothing behind.

    Call `finish` as the last thing: it hashes the files, writes the manifest and moves the folder
    to its place, replacing a former bundle there.
    """

    def __init__(self, path: Path) -> None:
        """Prepares to write the bundle ``path``."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() and former_path(path).exists():
            former_path(path).rename(path)  # a writer was killed between its two renames
        self._folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        self.model_dir.mkdir()
        self.processor_dir.mkdir()

    @property
    def model_dir(self) -> Path:
        """Where to write the weights."""
        return self._folder / "model"

    @property
    def processor_dir(self) -> Path:
        """Where to write the processor."""
        return self._folder / "processor"

    def copy_processor(self, source: Bundle) -> None:
        """Takes over the processor of another bundle."""
        shutil.copytree(source.processor_dir, self.processor_dir, dirs_exist_ok=True)

    def write_samples(self, samples: Iterable[Mapping[str, Any]]) -> None:
        """Writes the pairs of ``request`` and ``response``."""
        lines = [json.dumps(dict(sample), ensure_ascii=False) + "\n" for sample in samples]
        (self._folder / "samples.jsonl").write_text("".join(lines), encoding="utf-8")

    def write_card(self, text: str) -> None:
        """Writes the model card."""
        (self._folder / "README.md").write_text(text, encoding="utf-8")

    def draft(self, manifest: Manifest, *, hashed: bool = False) -> Bundle:
        """What is written so far, as a bundle to measure and to record samples with.

        It has fingerprints of its own where it is ``hashed``, which reads every file.
        """
        files = self._entries() if hashed else manifest.files
        return Bundle(self._folder, manifest.model_copy(update={"files": files}))

    def _entries(self) -> dict[str, FileEntry]:
        """What is written so far, by its path in the bundle."""
        return {
            str(file.relative_to(self._folder)): FileEntry(
                sha256=hash_file(file), num_bytes=file.stat().st_size
            )
            for file in sorted(self._folder.rglob("*"))
            if file.is_file()
        }

    def finish(self, manifest: Manifest) -> Bundle:
        """Completes the bundle with ``manifest``, whose ``files`` are filled in here.

        Raises:
            BundleError: there are no samples, the model folder is empty, or a file may not be in
                a bundle.
        """
        samples = self._folder / "samples.jsonl"
        if not samples.is_file() or not samples.stat().st_size or not any(self.model_dir.iterdir()):
            raise BundleError(f"bundle '{self.path}' would have no model or no samples.")
        files = self._entries()
        complete = manifest.model_copy(
            update={
                "files": files,
                "libraries": library_versions(),
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
        text = complete.model_dump_json(indent=2)
        (self._folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
        Bundle.open(self._folder)
        self._publish()
        return Bundle(self.path, complete)

    def _publish(self) -> None:
        """Moves the folder to its place; `Bundle.open` waits where it finds it half way."""
        self._folder.chmod(0o755)
        former = former_path(self.path)
        if self.path.exists():
            shutil.rmtree(former, ignore_errors=True)
            os.replace(self.path, former)  # noqa: PTH105 - a folder onto a free name
        os.replace(self._folder, self.path)  # noqa: PTH105 - atomic
        shutil.rmtree(former, ignore_errors=True)

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Removes what was written, unless `finish` has moved it away."""
        shutil.rmtree(self._folder, ignore_errors=True)
