"""What `ray-sft cluster up` has started: where it listens, which processes are its own.

Every process of a cluster carries the cluster's identity in its environment, which its children
inherit, so that `down` finds all of them and nobody else's.
"""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import psutil
from pydantic import Field, ValidationError

from ray_sft.core import Config, ServeError

__all__ = ["MARKER", "ClusterState", "default_state_dir", "ensure_token", "find_processes"]

MARKER = "RAY_SFT_CLUSTER"
"""Environment variable of every process of a local cluster; its value is the identity."""


class ClusterState(Config):
    """A running local cluster; written when its processes are, removed when they are gone."""

    identity: str = Field(min_length=8)
    """Value of `MARKER` in its processes."""
    port: int
    """Where Ray itself listens."""
    dashboard_port: int
    """Where jobs are submitted."""
    num_workers: int
    """Nodes beside the head."""
    temp_dir: str
    """Ray's session and log files."""

    @property
    def address(self) -> str:
        """What a job is submitted to."""
        return f"http://127.0.0.1:{self.dashboard_port}"

    def write(self, state_dir: Path) -> None:
        """Writes the record whole."""
        path = _record(state_dir)
        draft = path.with_suffix(".draft")
        draft.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
        draft.replace(path)

    @staticmethod
    def read(state_dir: Path) -> "ClusterState | None":
        """The record, or None where there is none.

        Raises:
            ServeError: the record is damaged.
        """
        path = _record(state_dir)
        try:
            return ClusterState.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise ServeError(
                f"cluster record '{path}' is damaged: {error.errors()[0]['msg']}. Look for "
                f"processes with {MARKER} in their environment, end them, and delete the file."
            ) from None

    @staticmethod
    def forget(state_dir: Path) -> None:
        """Removes the record."""
        _record(state_dir).unlink(missing_ok=True)


def default_state_dir() -> Path:
    """Where the record and the token of this user's local cluster are."""
    return Path.home() / ".ray-sft" / "cluster"


def find_processes(identity: str) -> list[psutil.Process]:
    """Every living process of the cluster, its jobs included."""
    return list(_matching(identity))


def _matching(identity: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            dead = process.status() == psutil.STATUS_ZOMBIE
            if not dead and process.environ().get(MARKER) == identity:
                yield process
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue


def ensure_token(state_dir: Path) -> Path:
    """The file with the cluster's token, made where it is missing, readable by its owner only.

    Ray's clients look for ``~/.ray/auth_token`` by themselves, so a token that is there is the
    cluster's too, and a new one is put there as well: a plain ``ray job submit`` finds it.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    state_dir.chmod(0o700)
    usual = Path.home() / ".ray" / "auth_token"
    token = usual.read_text(encoding="utf-8").strip() if usual.is_file() else ""
    if token:
        usual.chmod(0o600)  # Ray itself writes it for everyone to read
    else:
        token = secrets.token_hex(32)
        usual.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_private(usual, token)
    path = state_dir / "auth_token"
    _write_private(path, token)
    return path


def _write_private(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def _record(state_dir: Path) -> Path:
    return state_dir / "cluster.json"
