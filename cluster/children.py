"""Processes that a command starts, watches, and takes with it when it ends.

Each child has a session of its own, so Ctrl-C reaches only the command, which then stops them in
order. All carry the same mark in their environment, and so does whatever they start: what does
not end with its parent is found by it.
"""

import logging
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import psutil

from cluster.state import MARKER, find_processes
from ray_sft.core import ServeError

__all__ = ["Child", "Children", "interruptible"]

logger = logging.getLogger(__name__)

_PATIENCE_S = ((signal.SIGINT, 25.0), (signal.SIGTERM, 8.0), (signal.SIGKILL, 5.0))


@dataclass(frozen=True, slots=True)
class Child:
    """A running process; without ``log`` it writes to the terminal."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path | None

    def check_alive(self) -> None:
        """Returns while the process runs.

        Raises:
            ServeError: it has ended, with the end of its log.
        """
        status = self.process.poll()
        if status is not None:
            raise ServeError(f"{self.name} has ended with status {status}.{self._last_words()}")

    def wait(self, *, timeout_s: float) -> None:
        """Returns when the process has ended well.

        Raises:
            ServeError: it failed, or is still at it after ``timeout_s``.
        """
        try:
            status = self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise ServeError(f"{self.name} has not ended within {timeout_s:g} s.") from None
        if status:
            raise ServeError(f"{self.name} failed with status {status}.{self._last_words()}")

    def stop(self) -> None:
        """Asks the process to end, then tells it, then kills its group."""
        for number, patience_s in _PATIENCE_S:
            if self.process.poll() is not None:
                return
            with suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(self.process.pid, number)
                else:
                    self.process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=patience_s)

    def _last_words(self) -> str:
        if self.log is None:
            return " What it said stands above."
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return f" The end of '{self.log}':\n" + "\n".join(lines[-20:])


class Children:
    """Starts children; on leaving the ``with`` block none of them, nor of theirs, is left."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """``environment`` is added to this process's own for every child."""
        self._identity = secrets.token_hex(16)
        self._environment = {**os.environ, **environment, MARKER: self._identity}
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        """The starter itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops the children, the last one first."""
        with _deaf():
            for child in reversed(self._children):
                child.stop()
            self._kill_the_rest()

    def start(self, name: str, command: Sequence[str], *, log: Path | None = None) -> Child:
        """A new child; its output goes to ``log`` where one is given, else to the terminal."""
        file = log.open("wb") if log else None
        try:
            process = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT if file else None,
                start_new_session=True,
            )
        finally:
            if file:
                file.close()
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def check_alive(self, children: Sequence[Child]) -> None:
        """Raises where one of the ``children`` has ended."""
        for child in children:
            child.check_alive()

    def _kill_the_rest(self) -> None:
        ends_at = time.monotonic() + 10.0
        while found := find_processes(self._identity):
            for process in found:
                logger.debug("ending leftover process %d", process.pid)
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(found, timeout=1.0)
            if time.monotonic() > ends_at:
                alive = ", ".join(str(process.pid) for process in found)
                raise ServeError(f"processes {alive} do not end. Kill them.")


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt here.

    A shell starts background commands with SIGINT ignored, which children would inherit; a
    signal that is caught here has its usual meaning for them.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = [signal.signal(number, _interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, former, strict=True):
            signal.signal(number, handler)


@contextmanager
def _deaf() -> Iterator[None]:
    """A second Ctrl-C must not cut the stopping short."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    former = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, former, strict=True):
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
