"""What is kept on disk of a file and of a batch, beside what their owner is shown."""

from typing import Any, Self

from pydantic import BaseModel

from ray_sft.core import Config
from serve.batches.schema import Batch, FileObject
from serve.keys.api_key import ApiKey
from serve.keys.scopes import ScopeName

__all__ = ["FINISHED", "BatchRecord", "FileRecord", "KeyRecord"]

FINISHED = frozenset({"completed", "failed", "cancelled"})
"""Statuses in which a batch stays."""


class KeyRecord(Config):
    """Who has made a batch: its requests are permitted what that key was then. No secret."""

    name: str
    scopes: tuple[ScopeName, ...]
    models: tuple[str, ...]

    @classmethod
    def of(cls, key: ApiKey) -> Self:
        """What is kept of a key."""
        return cls(name=key.name, scopes=key.scopes, models=key.models)

    def key(self) -> ApiKey:
        """A key that opens no service, since no token has its hash."""
        return ApiKey(name=self.name, sha256="0" * 64, scopes=self.scopes, models=self.models)


class FileRecord(BaseModel):
    """A file."""

    created_ns: int
    """Orders files of the same second."""
    shown: FileObject


class BatchRecord(BaseModel):
    """A batch. After it was made, only the process that runs batches writes it."""

    created_ns: int
    """Batches run in this order."""
    owner: str
    key: KeyRecord | None
    """None where it was made without a key."""
    bundles: dict[str, str]
    """Bundle folders by model name, as they were served when the batch was made."""
    fingerprints: dict[str, str]
    """Of those bundles."""
    block_lines: int
    """As it was when the batch was made, so that blocks are cut alike after a restart."""
    output_id: str
    """The id of the file of answers, should there be any; known before, so that writing it again
    after a kill makes no second one."""
    error_id: str
    """The same of the requests that failed."""
    shown: Batch

    @property
    def is_finished(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.shown.status in FINISHED

    def showing(self, **changes: Any) -> Self:
        """A copy whose shown part has ``changes``."""
        shown = self.shown.model_copy(update=changes)
        return self.model_copy(update={"shown": shown})
