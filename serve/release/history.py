"""The releases of a service, a YAML file each: what was deployed, when, by whom, and its outcome.

A file appears whole and under a number of its own, also where two commands begin at the same
time; only one of them may deploy. The files hold whole configurations, so others may not read
them: a database's address has a password.
"""

import fcntl
import getpass
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

import yaml
from pydantic import Field, ValidationError

from ray_sft.core import Config, ConfigError, ServeError
from serve.args import ServiceArgs
from serve.release.plan import Way, changed_settings

__all__ = ["History", "Kind", "Outcome", "Record", "default_releases_dir"]

Kind: TypeAlias = Literal["found", "deploy", "canary", "promote", "abort", "rollback"]
Outcome: TypeAlias = Literal["deploying", "applied", "served", "returned", "failed", "interrupted"]

_FILE = re.compile(r"(\d{4,})\.yaml")
_GOOD = ("served", "applied")


class Record(Config):
    """One release."""

    number: int = Field(ge=1)
    """Counted from 1."""
    kind: Kind
    """Which command it was; ``found``: a service that something else had started."""
    way: Way
    """How it was brought to the replicas."""
    outcome: Outcome
    """``served``: all replicas answer; ``applied``: nobody waited; ``returned``: the release
    before it serves again; ``failed``: not even that, or there was none."""
    reason: str = ""
    """Why it does not serve."""
    overridden: tuple[str, ...] = ()
    """What spoke against it and was overridden by force."""
    time: str
    """When it began, UTC in ISO 8601."""
    by: str
    """User and machine."""
    args: ServiceArgs
    """The whole configuration, with the fingerprints of its bundles."""

    @property
    def is_good(self) -> bool:
        """Whether a service can go back to it."""
        return self.outcome in _GOOD


class History:
    """The records in a folder."""

    def __init__(self, folder: Path) -> None:
        """The folder is made with the first record."""
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other commands from deploying the same service meanwhile.

        Raises:
            ServeError: one is at it.
        """
        self._make_folder()
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ServeError(
                    f"another command is deploying this service (it holds '{self.folder}'). Wait "
                    "for its end."
                ) from None
            yield
        finally:
            os.close(descriptor)

    def begin(
        self, args: ServiceArgs, *, kind: Kind, way: Way, overridden: tuple[str, ...] = ()
    ) -> Record:
        """A new record under the next number, which its ``args`` carry too."""
        self._make_folder()
        number = max((record_number for record_number, _ in self._files()), default=0)
        while True:
            number = max(number + 1, args.release + 1)
            record = Record(
                number=number,
                kind=kind,
                way=way,
                outcome="deploying",
                overridden=overridden,
                time=datetime.now(UTC).isoformat(timespec="seconds"),
                by=f"{getpass.getuser()}@{socket.gethostname()}",
                args=args.model_copy(update={"release": number}),
            )
            draft = self._draft(record)
            try:
                os.link(draft, self._path(number))  # unlike a rename, refuses a name that is taken
            except FileExistsError:
                continue
            finally:
                draft.unlink()
            return record

    def end(self, record: Record, outcome: Outcome, reason: str = "") -> Record:
        """Writes down what became of a release."""
        ended = record.model_copy(update={"outcome": outcome, "reason": reason})
        self._draft(ended).replace(self._path(record.number))
        return ended

    def records(self) -> list[Record]:
        """Every release, the oldest first.

        Raises:
            ConfigError: a file is damaged.
        """
        return [self._read(path) for _, path in self._files()]

    def adopt(self, serving: ServiceArgs) -> Record | None:
        """Writes down what is served already, where no release says so: the way back to it.

        None where one does.
        """
        if any(one.is_good and not _differs(one.args, serving) for one in self.records()):
            return None
        return self.end(self.begin(serving, kind="found", way="nothing"), "served")

    def one_before(self, serving: ServiceArgs) -> Record:
        """The newest good release before the one that is served, and other than it.

        Raises:
            ConfigError: there is none.
        """
        for record in reversed(self.records()):
            is_before = record.is_good and record.number < serving.release
            if is_before and record.kind != "canary" and _differs(record.args, serving):
                return record
        raise ConfigError(
            f"'{self.folder}' holds no other release before {serving.release} that was served. "
            "Deploy a configuration instead."
        )

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _files(self) -> list[tuple[int, Path]]:
        if not self.folder.is_dir():
            return []
        found = [(_FILE.fullmatch(path.name), path) for path in self.folder.iterdir()]
        return sorted((int(match[1]), path) for match, path in found if match)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:04d}.yaml"

    def _draft(self, record: Record) -> Path:
        path = self.folder / f".{record.number:04d}.{os.getpid()}.draft"
        path.unlink(missing_ok=True)
        text = yaml.safe_dump(record.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return path

    def _read(self, path: Path) -> Record:
        try:
            return Record.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"release file '{path}' is damaged: {reason}. Repair it or move it away."
            ) from None


def _differs(former: ServiceArgs, serving: ServiceArgs) -> bool:
    is_same = former.fingerprints == serving.fingerprints and former.releases == serving.releases
    return not is_same or bool(changed_settings(former, serving))


def default_releases_dir(service: str) -> Path:
    """Where the releases of a service are kept, which is named by its port or its Ray."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", service).strip("-")
    return Path.home() / ".ray-sft" / "releases" / name
