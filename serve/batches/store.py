"""Files and batches on disk: a folder for each owner, one small JSON for each thing, written whole.

    <folder>/<owner>/files/<file id>.json, .jsonl
    <folder>/<owner>/batches/<batch id>/batch.json, cancel, parts/<attempt>/...

What is not in the owner's folder does not exist for them. Ids are checked before they become part
of a path. Nothing here is asynchronous or knows HTTP.
"""

import logging
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ray_sft.core import reason_of
from ray_sft.core.whole_files import write_whole
from serve.batches.ids import is_batch_id, is_file_id
from serve.batches.records import BatchRecord, FileRecord

__all__ = ["Store"]

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)

_STALE_S = 2 * 86_400
"""A draft of that age is what a killed process has left; no upload takes so long."""
_ONLY_OURS = 0o700
"""What others put into their files is not for every user of the machine."""


class Store:
    """The folder."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read or made before it is needed."""
        self.folder = folder

    def make_folder(self) -> None:
        """Makes the folder where it is missing; OSError where it cannot be made."""
        self.folder.mkdir(mode=_ONLY_OURS, parents=True, exist_ok=True)

    def files(self, owner: str) -> list[FileRecord]:
        """The owner's files, newest first."""
        found = (_read(path, FileRecord) for path in self._files(owner).glob("file-*.json"))
        return sorted((one for one in found if one), key=lambda one: one.created_ns, reverse=True)

    def file(self, owner: str, file_id: str) -> FileRecord | None:
        """A file of the owner."""
        if not is_file_id(file_id):
            return None
        return _read(self._files(owner) / f"{file_id}.json", FileRecord)

    def content(self, owner: str, file_id: str) -> Path:
        """Where the content of a file lies, or will."""
        assert is_file_id(file_id)
        return self._files(owner) / f"{file_id}.jsonl"

    def draft(self, owner: str) -> Path:
        """Where an upload is written until it is whole."""
        folder = self._files(owner)
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f".upload-{secrets.token_hex(16)}"

    def put_file(self, owner: str, record: FileRecord) -> None:
        """Makes a file exist whose content is in place."""
        path = self._files(owner) / f"{record.shown.id}.json"
        write_whole(path, record.model_dump_json())

    def delete_file(self, owner: str, file_id: str) -> None:
        """Makes a file not exist; of one that does not it does nothing."""
        assert is_file_id(file_id)
        (self._files(owner) / f"{file_id}.json").unlink(missing_ok=True)
        self.content(owner, file_id).unlink(missing_ok=True)

    def batches(self, owner: str) -> list[BatchRecord]:
        """The owner's batches, newest first."""
        found = (_read(path, BatchRecord) for path in self._batches(owner).glob("*/batch.json"))
        return sorted((one for one in found if one), key=lambda one: one.created_ns, reverse=True)

    def batch(self, owner: str, batch_id: str) -> BatchRecord | None:
        """A batch of the owner."""
        if not is_batch_id(batch_id):
            return None
        return _read(self.batch_folder(owner, batch_id) / "batch.json", BatchRecord)

    def put_batch(self, record: BatchRecord) -> None:
        """Keeps a batch as it is now."""
        path = self.batch_folder(record.owner, record.shown.id) / "batch.json"
        write_whole(path, record.model_dump_json())

    def batch_folder(self, owner: str, batch_id: str) -> Path:
        """Where everything about a batch lies."""
        assert is_batch_id(batch_id)
        return self._batches(owner) / batch_id

    def wish_cancelled(self, record: BatchRecord, now: int) -> None:
        """Asks whoever runs the batch to end it; asking again changes nothing."""
        path = self.cancel_path(record)
        if not path.exists():
            write_whole(path, str(now))

    def cancel_path(self, record: BatchRecord) -> Path:
        """A file that is there once the batch's owner wants no more of it."""
        return self.batch_folder(record.owner, record.shown.id) / "cancel"

    def wished_cancelled_at(self, record: BatchRecord) -> int | None:
        """When the owner has wanted no more of it."""
        try:
            return int(self.cancel_path(record).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def everyones_batches(self) -> list[BatchRecord]:
        """All batches, oldest first."""
        found = (one for owner in self._owners() for one in self.batches(owner))
        return sorted(found, key=lambda one: one.created_ns)

    def sweep(self, now: float, *, keep_s: float) -> None:
        """Deletes what has expired: files, finished batches, and drafts that nobody finishes.

        The input of a batch that is not finished stays.
        """
        for owner in self._owners():
            batches = self.batches(owner)
            in_use = {one.shown.input_file_id for one in batches if not one.is_finished}
            for batch in batches:
                if batch.is_finished and batch.shown.created_at + keep_s <= now:
                    shutil.rmtree(self.batch_folder(owner, batch.shown.id), ignore_errors=True)
            for file in self.files(owner):
                if file.shown.expires_at <= now and file.shown.id not in in_use:
                    self.delete_file(owner, file.shown.id)
            self._sweep_leftovers(owner, now)

    def _sweep_leftovers(self, owner: str, now: float) -> None:
        """Deletes drafts, and contents that were killed before they became files."""
        contents = self._files(owner).glob("file-*.jsonl")
        orphans = (path for path in contents if not path.with_suffix(".json").exists())
        for path in (*self._files(owner).glob(".*"), *orphans):
            if path.exists() and path.stat().st_mtime + _STALE_S <= now:
                path.unlink(missing_ok=True)

    def _owners(self) -> Iterator[str]:
        if self.folder.is_dir():
            yield from (path.name for path in self.folder.iterdir() if path.is_dir())

    def _files(self, owner: str) -> Path:
        return self.folder / owner / "files"

    def _batches(self, owner: str) -> Path:
        return self.folder / owner / "batches"


def _read(path: Path, kind: type[M]) -> M | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:  # deleted since it was listed
        return None
    except ValidationError as error:
        # one that another version has written must not keep the others from being seen
        logger.warning("'%s' is none of this version's: %s", path, reason_of(error))
        return None
