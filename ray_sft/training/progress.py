"""What training reports while it runs: one record a step or evaluation, gathered by one actor.

Workers may run anywhere; only the driver writes to the run folder, so records travel through an
actor. A restarted run repeats the steps since its checkpoint; the later record of a step counts.
"""

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import ray

from ray_sft.training.trackers import Followers

__all__ = ["ProgressReader", "Record", "RecordLog"]

Record: TypeAlias = dict[str, float | str]
"""``event`` (``step``, ``evaluation``, ``start``), ``step``, and figures."""

_POLL_S = 0.5


@ray.remote(num_cpus=0, max_restarts=0)
class RecordLog:
    """Holds the records until the driver takes them."""

    def __init__(self) -> None:
        """An empty log."""
        self._records: list[Record] = []

    def append(self, record: Record) -> None:
        """Adds a record."""
        self._records.append(record)

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
        while True:
            last_round = self._stop.wait(_POLL_S)
            for record in ray.get(self._log.take.remote(), timeout=20):
                self._write(record)
            if last_round:
                return

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
