"""Figures of batches for Prometheus.

The process that runs batches writes them into the batches' folder, and every replica shows what
stands there: the figures are the service's and not a replica's, so replicas are not to be added.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel

from ray_sft.core.whole_files import write_whole
from serve.batches.records import BatchRecord

__all__ = ["BatchFigures", "FigureBook"]

_NAME = "figures.json"


class _Figures(BaseModel):
    batches: dict[str, int] = {}
    lines: dict[str, int] = {"completed": 0, "failed": 0}


class FigureBook:
    """What is written; use it from the process that runs batches alone."""

    def __init__(self, folder: Path) -> None:
        """Goes on from what ``folder`` says."""
        self._path = folder / _NAME
        self._figures = _read(self._path)

    def add_lines(self, *, completed: int, failed: int) -> None:
        """Counts requests that were answered; a kill forgets those since the last `write`."""
        self._figures.lines["completed"] += completed
        self._figures.lines["failed"] += failed

    def write(self, batches: Iterable[BatchRecord]) -> None:
        """Writes the lines counted so far, and how many of ``batches`` have which status."""
        self._figures.batches = dict(Counter(one.shown.status for one in batches))
        write_whole(self._path, self._figures.model_dump_json())


class BatchFigures(Collector):
    """What `/metrics` shows of a folder."""

    def __init__(self, folder: Path) -> None:
        """Reads ``folder`` whenever it is asked."""
        self._path = folder / _NAME

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client`."""
        figures = _read(self._path)
        batches = GaugeMetricFamily(
            "ray_sft_batches",
            "Batches that are kept, by status; the same for every replica.",
            labels=["status"],
        )
        for status, num in sorted(figures.batches.items()):
            batches.add_metric([status], num)
        yield batches
        lines = CounterMetricFamily(
            "ray_sft_batch_lines",
            "Requests within batches by outcome; the same for every replica.",
            labels=["outcome"],
        )
        for outcome, num in sorted(figures.lines.items()):
            lines.add_metric([outcome], num)
        yield lines


def _read(path: Path) -> _Figures:
    try:
        return _Figures.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Figures()
