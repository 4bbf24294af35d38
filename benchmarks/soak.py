"""Claim: under steady load the service neither grows nor fails.

MiniLM's classifier and a Llama of 28 million parameters, both int8, behind the proxy: single texts
and streamed chats together, first as fast as they go (the capacity of the mix), then at 70 % of it
by the clock. Ours: the steepest slope of the resident memory of the replica, of HAProxy and of the
actor around it, by Theil and Sen over all looks after the warm-up. Beside it: how every request
ended, and the latency over time.

    python -m benchmarks.soak [--minutes 20] [--quick]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.stats import theilslopes

from apps.bench.load import Load
from apps.bench.plan import Plan, read_texts
from apps.bench.summary import Summary, summarize
from apps.bench.wire import make_requests
from benchmarks.generation import build as build_generators
from benchmarks.harness import report, say
from benchmarks.http_service import Service, build_bundle, start_service, with_own_samples
from ray_sft.bundle import Bundle

SHARE = 0.7
LIMIT_MB_PER_MINUTE = 1.0
LOOK_EVERY_S = 5.0
WARM_UP_SHARE = 0.25
NUM_WINDOWS = 10
MAX_TOKENS = 32
CONNECTIONS = {"classify": 8, "chat": 4}
"""Of the closed loop that finds the capacity."""
TURNS = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good morning"}]
MODELS = {"classify": "intents", "chat": "replies"}
PROCESSES = {
    "replica": "ray::ServeReplica",
    "proxy": "haproxy",
    "proxy_actor": "ray::HAProxyManager",
}
"""How the command lines of what is looked at begin, or the names of their programs."""


def main() -> None:
    """Runs the two loads and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long it is soaked")
    parser.add_argument("--quick", action="store_true", help="one minute")
    options = parser.parse_args()
    seconds = 60.0 * (1.0 if options.quick else options.minutes)
    with tempfile.TemporaryDirectory() as name:
        intents, replies = _bundles(Path(name))
        paths = {"intents": str(intents.path), "replies": str(replies.path)}
        with start_service(intents, bundles=paths) as service:
            closed = asyncio.run(run_mix(service, seconds=min(30.0, seconds / 4)))
            rates = {route: one.requests_per_s for route, one in closed.summaries().items()}
            say("capacity: " + ", ".join(f"{r} {rate:.1f}/s" for r, rate in rates.items()))
            rates = {route: rate * SHARE for route, rate in rates.items()}
            soak = asyncio.run(run_mix(service, seconds=seconds, rates=rates))
    _report(soak, rates, seconds / 60.0)


def _bundles(folder: Path) -> tuple[Bundle, Bundle]:
    """A classifier, and a model that writes."""
    for part in ("classifier", "generator"):
        (folder / part).mkdir()
    _, small = build_generators(folder / "generator")
    return build_bundle(folder / "classifier"), with_own_samples(small, [{"messages": TURNS}])


@dataclass(slots=True)
class Memory:
    """Resident megabytes of a service's processes, at every look."""

    pid: int
    """Of the process that has started all others."""
    minutes: list[float] = field(default_factory=list)
    megabytes: dict[str, list[float]] = field(
        default_factory=lambda: {name: [] for name in PROCESSES}
    )

    def look(self) -> None:
        """Takes the figures of now."""
        found = dict.fromkeys(PROCESSES, 0.0)
        for process in psutil.Process(self.pid).children(recursive=True):
            with suppress(psutil.Error):  # it has just ended
                command = process.cmdline()[:1]
                for name, start in PROCESSES.items():
                    if any(one.startswith(start) or Path(one).name == start for one in command):
                        found[name] += process.memory_info().rss / 1e6
        self.minutes.append(time.monotonic() / 60.0)
        for name, value in found.items():
            self.megabytes[name].append(value)

    def slopes(self) -> dict[str, float]:
        """Megabytes a minute after the warm-up, of each kind of process."""
        first = int(len(self.minutes) * WARM_UP_SHARE)
        minutes = self.minutes[first:]
        return {
            name: float(theilslopes(values[first:], minutes).slope)
            for name, values in self.megabytes.items()
        }


@dataclass(slots=True)
class Mix:
    """Loads of several routes at the same time, and the memory meanwhile."""

    loads: dict[str, Load]
    memory: Memory

    def summaries(self) -> dict[str, Summary]:
        """The figures by route, once it has run."""
        return {route: summarize(load) for route, load in self.loads.items()}

    async def run(self) -> None:
        """Loads until the time is over."""
        looking = asyncio.create_task(self._look())
        try:
            async with asyncio.TaskGroup() as tasks:
                for load in self.loads.values():
                    tasks.create_task(load.run())
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    async def _look(self) -> None:
        (plan, *_) = (load.plan for load in self.loads.values())
        columns = BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
        with Progress(*columns, console=Console(), transient=True) as progress:
            task = progress.add_task("", total=plan.duration_s)
            while True:
                self.memory.look()
                progress.update(task, description=self._line(), advance=LOOK_EVERY_S)
                await asyncio.sleep(LOOK_EVERY_S)

    def _line(self) -> str:
        told = [f"{name} {values[-1]:.0f} MB" for name, values in self.memory.megabytes.items()]
        for route, load in self.loads.items():
            told.append(f"{route} {len(load.records)}, failed {load.records.num_failed}")
        return ", ".join(told)


async def run_mix(
    service: Service, *, seconds: float, rates: dict[str, float] | None = None
) -> Mix:
    """Loads every route, in a closed loop or at ``rates`` requests a second by the clock."""
    loads = {}
    for route, connections in CONNECTIONS.items():
        plan = Plan(
            url=service.url,
            texts=read_texts(None),
            route=route,
            model=MODELS[route],
            max_tokens=MAX_TOKENS,
            connections=connections if rates is None else 64,
            rate=None if rates is None else rates[route],
            duration_s=seconds,
        )
        loads[route] = Load(plan, make_requests(plan, key=service.key))
    mix = Mix(loads, Memory(service.pid))
    say(f"{seconds:g} s " + ("as fast as it goes" if rates is None else f"at {SHARE:.0%} of that"))
    await mix.run()
    return mix


def latency_over_time(load: Load) -> list[tuple[float, float]]:
    """Median and 99th percentile in milliseconds, of equal parts of the time."""
    start, end, code = (load.records.column(name) for name in ("start", "end", "code"))
    edges = np.linspace(load.begins_at, load.ends_at, NUM_WINDOWS + 1)
    found = []
    for first, last in pairwise(edges):
        inside = (start >= first) & (start < last) & (code == 0)
        if inside.any():
            p50, p99 = np.percentile((end - start)[inside] * 1e3, (50, 99))
            found.append((round(float(p50), 1), round(float(p99), 1)))
    return found


def _report(soak: Mix, rates: dict[str, float], minutes: float) -> None:
    summaries, slopes = soak.summaries(), soak.memory.slopes()
    steepest = max(slopes.values())
    report(
        "soak",
        ours=steepest,
        peer=LIMIT_MB_PER_MINUTE,
        ratio=steepest / LIMIT_MB_PER_MINUTE,
        unit=f"MB a minute that resident memory grows at {SHARE:.0%} of the capacity, at the most "
        "of three kinds of process, against what is allowed",
        minutes=minutes,
        rates={route: round(rate, 1) for route, rate in rates.items()},
        slopes_mb_per_minute={name: round(slope, 3) for name, slope in slopes.items()},
        megabytes={name: _over_time(values) for name, values in soak.memory.megabytes.items()},
        statuses={route: one.statuses for route, one in summaries.items()},
        errors={route: one.errors for route, one in summaries.items()},
        unsent={route: one.unsent for route, one in summaries.items()},
        p50_p99_ms={route: latency_over_time(load) for route, load in soak.loads.items()},
    )


def _over_time(values: Sequence[float]) -> list[float]:
    """The first, the last, and some between them."""
    places = np.linspace(0, len(values) - 1, NUM_WINDOWS + 1).round().astype(int)
    return [round(values[place], 1) for place in places]


if __name__ == "__main__":
    main()
