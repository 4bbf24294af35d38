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
from ray.exceptions import GetTimeoutError, RayError

from ray_sft.training.pulse import EVERY_S, Pulses
from ray_sft.training.trackers import Followers

__all__ = ["ProgressReader", "Record", "RecordLog"]

logger = logging.getLogger(__name__)

Record: TypeAlias = dict[str, float | str]
"""``event`` (``start``, ``step``, ``evaluation``, ``checkpoint``, ``end``), ``step``, and figures.

A step also has ``rows``, a checksum of the samples it was run on."""

_POLL_S = 0.5
_ANSWER_S = 20.0
_PATIENCE_S = 120.0
"""How long workers may wait for one of them before that is told."""


@ray.remote(num_cpus=0, max_restarts=0)
class RecordLog:
    """Holds the records until the driver takes them."""

    def __init__(self) -> None:
        """An empty log."""
        self._records: list[Record] = []
        self._num_gone = 0
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

    def since(self, count: int) -> list[Record]:
        """The records after the first ``count`` ones, which are forgotten."""
        del self._records[: count - self._num_gone]
        self._num_gone = count
        return list(self._records)


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
        self._num_written = 0
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
            try:
                if time.monotonic() > next_look:
                    next_look = time.monotonic() + EVERY_S
                    self._look_for_a_stall()
                self._take()
            except GetTimeoutError:
                # a busy machine; nothing is lost, since the log keeps what was not written
                logger.debug("the log of the run does not answer")
                continue
            except RayError as error:
                logger.debug("the log of the run is gone: %s", error)
                return
            if last_round:
                return

    def _take(self) -> None:
        for record in ray.get(self._log.since.remote(self._num_written), timeout=_ANSWER_S):
            self._write(record)
            self._num_written += 1

    def _look_for_a_stall(self) -> None:
        found: str = ray.get(self._log.stall.remote(_PATIENCE_S), timeout=_ANSWER_S)
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
