"""The file of API keys: read whole, changed under a lock, replaced in one step.

Readable by its owner only. Two commands that change it at the same time wait for each other, and
a service that reads it meanwhile sees the old or the new one, never a half.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pydantic import ValidationError, model_validator

from ray_sft.core import Config, ServeError
from serve.keys.api_key import ApiKey

__all__ = ["KeyFile", "change_key_file", "existing_key_file", "read_key_file"]


class KeyFile(Config):
    """What the file holds."""

    id: str = ""
    """Made with the file and kept: tells a copy or a shared volume from another file."""
    keys: tuple[ApiKey, ...] = ()
    """The keys, in the order in which they were added."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [key.name for key in self.keys]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two keys are named '{name}'")
        return self


def read_key_file(path: Path) -> KeyFile | None:
    """What the file holds; None where there is no file.

    Raises:
        ServeError: the file is damaged or cannot be read.
    """
    try:
        return KeyFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServeError(f"key file '{path}' cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ServeError(
            f"key file '{path}' is damaged: {where + ': ' if where else ''}{problem['msg']}. "
            "Repair it, or move it away to get a new key."
        ) from None


def existing_key_file(path: Path) -> KeyFile:
    """What the file holds.

    Raises:
        ServeError: there is no file, or it is damaged or cannot be read.
    """
    content = read_key_file(path)
    if content is None:
        raise ServeError(
            f"key file '{path}' does not exist. Choose another with --keys-file, or make a key: "
            "ray-sft keys add NAME."
        )
    return content


def change_key_file(path: Path, change: Callable[[KeyFile], KeyFile]) -> None:
    """Replaces what the file holds; a missing one is made.

    Raises:
        ServeError: the file is damaged or cannot be written, or ``change`` refuses.
    """
    read_key_file(path)  # a damaged one is refused before anything is touched
    with _written(path), _locked(path):
        before = read_key_file(path) or KeyFile(id=os.urandom(8).hex())
        _replace(path, change(before))


def _replace(path: Path, content: KeyFile) -> None:
    tree = content.model_dump(mode="json", exclude_defaults=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(tree, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the folder's lock, which leaves no file behind and ends with its process."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ServeError(
            f"key file '{path}' cannot be written: {error.strerror}. Choose another with "
            "--keys-file, or set RAY_SFT_API_KEYS."
        ) from None
