"""Data sets of the Hugging Face hub."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ray_sft.bundle.manifest import hash_file
from ray_sft.core import DataError, reason_of
from ray_sft.core.storage import find_files
from ray_sft.data.sources.base import RawRow, Source

__all__ = ["Hub"]


class Hub(Source):
    """A data set of the Hugging Face hub, streamed."""

    source: Literal["hub"] = "hub"
    path: str = Field(min_length=1)
    """The data set's id, or a folder of this machine that is laid out as one."""
    split: str = "train"
    """Which split to read."""
    subset: str = ""
    """The data set's configuration, where it has several."""

    @property
    def title(self) -> str:
        """See `Source.title`."""
        return self.path

    def parts(self) -> list[str]:
        """The id itself: one reader."""
        return [self.path]

    def fingerprint(self) -> str:
        """SHA-256 over the settings and the files of a folder; the hub's content is not hashed."""
        digest = hashlib.sha256(self.model_dump_json().encode())
        if Path(self.path).is_dir():
            for file in find_files(self.path, ("",)):
                digest.update(hash_file(Path(file.path)).encode())
        return digest.hexdigest()

    def column_names(self, part: str) -> list[str] | None:
        """See `Source.column_names`."""
        with self._streamed(part) as stream:
            names = stream.column_names
        return list(names) if names else None

    def read(self, part: str) -> Iterator[RawRow]:
        """See `Source.read`."""
        with self._streamed(part) as stream:
            yield from stream

    @contextmanager
    def _streamed(self, part: str) -> Iterator[Any]:
        import datasets  # takes seconds, and few recipes stream from the hub

        try:
            yield datasets.load_dataset(part, self.subset or None, split=self.split, streaming=True)
        # errors of the network and of Arrow are among the first two
        except (OSError, ValueError, datasets.exceptions.DatasetNotFoundError) as error:
            raise DataError(
                f"cannot read hub data set '{part}': {reason_of(error).rstrip('.')}. Check its id, "
                f"its split ('{self.split}') and subset, and the connection; a private one needs "
                "a token in the environment variable HF_TOKEN."
            ) from None
