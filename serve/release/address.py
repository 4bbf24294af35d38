"""Where the services of this user on this machine are: a file for each, readable by its owner only.

The Ray of a service started by ``ray-sft serve`` is its own; ``ray-sft deploy`` finds it here.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from ray_sft.core import Config

__all__ = ["ServiceAddress", "announced", "find_service", "services_dir"]


class ServiceAddress(Config):
    """A running service."""

    ray_address: str
    """Where its Ray listens."""
    url: str
    """Where it answers."""
    pid: int
    """Its process, which has ended where the file was left behind."""


def services_dir() -> Path:
    """The folder of the files, one a port."""
    return Path.home() / ".ray-sft" / "services"


@contextmanager
def announced(service: ServiceAddress, port: int, folder: Path | None = None) -> Iterator[None]:
    """The file is there within the context."""
    path = (folder or services_dir()) / f"{port}.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(service.model_dump_json() + "\n")
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def find_service(port: int, folder: Path | None = None) -> ServiceAddress | None:
    """The service of this user on a port; None where there is none, or it has died."""
    path = (folder or services_dir()) / f"{port}.json"
    try:
        service = ServiceAddress.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return service if _lives(service.pid) else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
