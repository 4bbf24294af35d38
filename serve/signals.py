"""SIGINT and SIGTERM mean the same to a service: stop, and finish stopping.

A signal's handler raises wherever the main thread happens to be. Where that is a finaliser or a
callback of the interpreter (`logging` has one around every fork), Python prints the exception and
goes on as if nothing had happened. So a signal is also noted, and whoever starts something long
asks before going on.
"""

import select
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Signals", "deaf_to_signals"]

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_STOPPING_BYTES = frozenset(int(signum) for signum in _STOPPING)


class Signals:
    """The signals to stop that arrive while this is entered, in the main thread.

    Each raises KeyboardInterrupt; one whose exception got lost is raised by `check` or `wait`.
    It is noted by the interpreter itself (`signal.set_wakeup_fd`), so a library that puts handlers
    of its own in the place of these does not hide it.
    """

    def __init__(self) -> None:
        """Hears nothing before it is entered."""
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def __enter__(self) -> "Signals":
        self._former = [signal.getsignal(signum) for signum in _STOPPING]
        self._former_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self.hear()
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in zip(_STOPPING, self._former, strict=True):
            signal.signal(signum, handler)
        signal.set_wakeup_fd(self._former_fd)
        self._reader.close()
        self._writer.close()

    def hear(self) -> None:
        """Puts the handlers back in their place."""
        for signum in _STOPPING:
            signal.signal(signum, _interrupt)

    def check(self) -> None:
        """Goes on where no signal has come.

        Raises:
            KeyboardInterrupt: one has.
        """
        while select.select([self._reader], [], [], 0)[0]:
            if not _STOPPING_BYTES.isdisjoint(self._reader.recv(4096)):
                raise KeyboardInterrupt

    def wait(self) -> None:
        """Waits for a signal, which raises KeyboardInterrupt."""
        while True:
            select.select([self._reader], [], [])
            self.check()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    del signum, frame
    raise KeyboardInterrupt


@contextmanager
def deaf_to_signals() -> Iterator[None]:
    """A second Ctrl-C must not cut the shutdown short."""
    former = [signal.getsignal(signum) for signum in _STOPPING]
    for signum in _STOPPING:
        signal.signal(signum, signal.SIG_IGN)
    try:
        yield
    finally:
        for signum, handler in zip(_STOPPING, former, strict=True):
            signal.signal(signum, handler)
