"""Names of files and batches: random, so that none is guessed, and safe as names on a disk."""

import hashlib
import re
import secrets

from serve.keys.api_key import ApiKey

__all__ = ["EVERYBODY", "is_batch_id", "is_file_id", "new_batch_id", "new_file_id", "owner_of"]

_FILE = re.compile(r"file-[0-9a-f]{32}")
_BATCH = re.compile(r"batch_[0-9a-f]{32}")

EVERYBODY = "everybody"
"""Who owns what is made without a key, where the application runs without its border."""


def new_file_id() -> str:
    """The id of a new file; 128 random bits."""
    return f"file-{secrets.token_hex(16)}"


def new_batch_id() -> str:
    """The id of a new batch; 128 random bits."""
    return f"batch_{secrets.token_hex(16)}"


def is_file_id(text: str) -> bool:
    """Whether ``text`` has the form of a file's id; nothing else becomes part of a path."""
    return _FILE.fullmatch(text) is not None


def is_batch_id(text: str) -> bool:
    """Whether ``text`` has the form of a batch's id; nothing else becomes part of a path."""
    return _BATCH.fullmatch(text) is not None


def owner_of(key: ApiKey | None) -> str:
    """Whose something is, as the name of a folder.

    A key stays the same when its token is rotated, and is another one when its name is given
    again after it was removed. Keys of the environment have numbers for names, which change with
    their order, and no date; they are told by their hash.
    """
    if key is None:
        return EVERYBODY
    return hashlib.sha256(f"{key.name}\n{key.created or key.sha256}".encode()).hexdigest()[:32]
