"""What training reports while it runs: one record a step or evaluation, gathered by one actor.

Workers may run anywhere; only the driver writes to the run folder, so records travel through an
actor. A restarted run repeats the steps since its checkpoint; the later record of a step counts.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import ray

from ray_sft.training.pulse import EVERY_S, Pulses
from ray_sft.training.trackers import Followers

__all__ = ["ProgressReader", "Record", "RecordLog"]

logger = logging.getLogger(__name__)

Record: TypeAlias = dict[str, float | str]
"""``event`` (``start``, ``step``, ``evaluation``, ``checkpoint``, ``end``), ``step``, and figures.

A step also has ``rows``, a checksum of the samples it was run on."""

_POLL_S = 0.5
_PATIENCE_S = 120.0
"""How long workers may wait for one of them before that is told."""


@ray.remote(num_cpus=0, max_restarts=0)
class RecordLog:
    """Holds the records until the driver takes them."""

    def __init__(self) -> None:
        """An empty log."""
        self._records: list[Record] = []
        self._pulses = Pulses()

    def append(self, record: Record) -> None:
        """Adds a record."""
        self._records.append(record)

    def heard(self, rank: int, step: int, phase: str) -> None:
        """See `Pulses.heard`."""
        self._pulses.heard(rank, step, phase)

    def stall(self, patience_s: float) -> str:
        """See `Pulses.stall`."""
        return self._pulses.stall(patience_s)

    def take(self) -> list[Record]:
        """The records since the last call."""
        records, self._records = self._records, []
        return records


class ProgressReader:
    """A context whose thread moves records to disk, to trackers and to a callback."""

    def __init__(
        self,
        log: Any,
        *,
        out_dir: Path,
        followers: Followers,
        on_record: Callable[[Mapping[str, Any]], None],
    ) -> None:
        """Follows ``log``; writes ``out_dir/metrics.jsonl``. ``followers`` must be open."""
        self._log = log
        self._path = out_dir / "metrics.jsonl"
        self._followers = followers
        self._on_record = on_record
        self.stall = ""
        """On whom the workers wait, or waited when the run ended; see `Pulses.stall`."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def __enter__(self) -> "ProgressReader":
        """Starts to follow."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Takes what is left."""
        self._stop.set()
        self._thread.join(timeout=30)

    def _follow(self) -> None:
        next_look = time.monotonic() + EVERY_S
        while True:
            last_round = self._stop.wait(_POLL_S)
            if time.monotonic() > next_look:
                next_look = time.monotonic() + EVERY_S
                self._look_for_a_stall()
            for record in ray.get(self._log.take.remote(), timeout=20):
                self._write(record)
            if last_round:
                return

    def _look_for_a_stall(self) -> None:
        found: str = ray.get(self._log.stall.remote(_PATIENCE_S), timeout=20)
        if found and not self.stall:
            logger.warning("%s", found)
        self.stall = found

    def _write(self, record: Record) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        figures = {
            name: float(value)
            for name, value in record.items()
            if name != "step" and isinstance(value, int | float)
        }
        self._followers.write(str(record["event"]), int(record["step"]), figures)
        self._on_record(record)
