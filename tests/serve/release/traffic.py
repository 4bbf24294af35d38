"""Steady traffic through the client as it is by default: calls and streams, and how they ended."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from apps.client import Client, Message, ServiceError
from tests.serve.release.running import ASKED
from tests.serve.test_run import Running

__all__ = ["Ends", "Traffic", "table", "traffic"]

CONVERSATION = [Message("user", ASKED)]
COLUMNS = ("calls", "streams")


@dataclass
class Ends:
    """How often what ended how; an end is a status, with the code of a failure."""

    calls: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    """Of the calls, with all their attempts."""
    failures: list[str] = field(default_factory=list)


@dataclass
class Traffic:
    """Threads that call and threads that read streams, all with one client."""

    client: Client
    share_that_leaves: float = 0.0
    """Of the streams, that are left after their first piece."""
    pause_s: float = 0.02
    ends: Ends = field(default_factory=Ends)
    is_over: bool = False

    def call(self, number: int) -> None:
        """Asks for a label, again and again."""
        del number
        while not self.is_over:
            ends, began = self.ends, time.monotonic()
            ends.calls[self._ended(lambda: self.client.classify(ASKED, model="intents"))] += 1
            ends.slowest_s = max(ends.slowest_s, time.monotonic() - began)
            time.sleep(self.pause_s)

    def read(self, number: int) -> None:
        """Asks for a reply, again and again, and reads it to its end or leaves."""
        draw = random.Random(number)
        while not self.is_over:
            leaves = draw.random() < self.share_that_leaves
            ends, seed = self.ends, draw.randrange(1 << 30)
            found = self._ended(lambda: self._read_one(leaves, seed))  # noqa: B023 # called here
            ends.streams["left" if leaves and found == "200" else found] += 1
            time.sleep(self.pause_s)

    def _read_one(self, leaves: bool, seed: int) -> None:
        with self.client.stream_chat(
            CONVERSATION, model="replies", max_tokens=64, temperature=1.0, seed=seed
        ) as stream:
            for _ in stream:
                if leaves:
                    return

    def _ended(self, ask: Callable[[], object]) -> str:
        try:
            ask()
        except ServiceError as error:
            self.ends.failures.append(f"{error} {error.__notes__}")
            return f"{error.status or 'none'} {error.code}"
        return "200"


@contextmanager
def traffic(running: Running, *, num_calls: int = 4, num_streams: int = 4) -> Iterator[Traffic]:
    """The traffic while the context lasts; every call and stream has ended after it."""
    with Client(running.url, api_key=running.key) as client:
        found = Traffic(client)
        jobs = [found.call] * num_calls + [found.read] * num_streams
        threads = [threading.Thread(target=job, args=(n,)) for n, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        try:
            yield found
        finally:
            found.is_over = True
            for thread in threads:
                thread.join(timeout=90)
        assert not any(thread.is_alive() for thread in threads)


def table(rows: dict[str, Ends]) -> str:
    """A line for every disturbance and kind of request."""
    lines = [f"{'disturbance':<28} {'what':<8} {'slowest s':>9}  ends"]
    for name, ends in rows.items():
        for column in COLUMNS:
            counts: Counter[str] = getattr(ends, column)
            shown = ", ".join(f"{end}: {count}" for end, count in sorted(counts.items()))
            slowest = f"{ends.slowest_s:9.2f}" if column == "calls" else " " * 9
            lines.append(f"{name:<28} {column:<8} {slowest}  {shown}")
    return "\n".join(lines)
