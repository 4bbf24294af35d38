"""Claim: at five times its capacity the service stays quick for whom it accepts.

The others are told no at once.

Banking77 sentences by `ray-sft bench`, on the same cores as the service: first as fast as 32
connections go (the capacity). Then a service that takes no text that would wait 20 ms is asked at
half of that rate, at five times of it, and at half again. Ours: the 99th percentile of accepted
requests under overload over that at half load. Beside it: how soon the others get their 429, the
memory of the service's processes, and the percentile after the overload.

    python -m benchmarks.overload [--quick] [--bundle FOLDER]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import psutil

from benchmarks.harness import report, say
from benchmarks.http_service import Service, build_bundle, sentences, start_service
from ray_sft.bundle import Bundle

NUM_CONNECTIONS = 32
OVER = 5.0
RECOVERY_S = 5.0
MAX_WAIT_S = 0.02


def main() -> None:
    """Runs the four loads and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ends within 90 seconds")
    parser.add_argument("--bundle", type=Path, help="a classifier's ONNX bundle; else built")
    options = parser.parse_args()
    short, long = (5, 15) if options.quick else (20, 180)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = folder / "texts.txt"
        texts.write_text("\n".join(sentences()), encoding="utf-8")
        bundle = Bundle.open(options.bundle) if options.bundle else build_bundle(folder)
        with start_service(bundle) as service:
            load = _Loads(service, texts, folder)
            capacity = load.run(short, connections=NUM_CONNECTIONS)["requests_per_s"]
            say(f"capacity: {capacity:.0f} requests/s")
        with start_service(bundle, max_wait_s=MAX_WAIT_S) as service:
            load = _Loads(service, texts, folder)
            before = load.run(short, rate=capacity / 2)
            with _Probe(service) as probe:
                over = load.run(long, rate=capacity * OVER, connections=1024)
            time.sleep(RECOVERY_S)
            after = load.run(short, rate=capacity / 2)
    p99 = {
        name: one["latency_ms"]["p99"]
        for name, one in (("half", before), ("over", over), ("after", after))
    }
    report(
        "overload",
        ours=p99["over"] / p99["half"],
        peer=1.0,
        ratio=p99["over"] / p99["half"],
        unit=f"99th percentile of accepted requests at {OVER:g} times the capacity over that at "
        "half of it; load generator on the same cores",
        max_wait_s=MAX_WAIT_S,
        capacity=round(capacity, 1),
        p99_ms={name: round(value, 2) for name, value in p99.items()},
        accepted_per_s=over["requests_per_s"],
        statuses=over["statuses"],
        statuses_after=after["statuses"],
        refused_after_ms=probe.figures(),
        megabytes=probe.megabytes(),
    )


@dataclass(frozen=True, slots=True)
class _Loads:
    service: Service
    texts: Path
    folder: Path

    def run(
        self, seconds: float, *, rate: float | None = None, connections: int = 256
    ) -> dict[str, Any]:
        """The figures of `ray-sft bench`."""
        path = self.folder / "figures.json"
        command = [sys.executable, "-m", "ray_sft.cli", "bench", self.service.url]
        command += ["--texts", str(self.texts), "--connections", str(connections)]
        command += ["--duration", f"{seconds:g}s", "--json", str(path)]
        if rate is not None:
            command += ["--rate", f"{rate:.1f}"]
            say(f"{seconds:g} s at {rate:.0f} requests/s")
        done = subprocess.run(
            command,
            env=os.environ | {"RAY_SFT_API_KEY": self.service.key},
            capture_output=True,
            text=True,
            timeout=seconds + 180,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"the load failed: {done.stderr[-1000:]}")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


@dataclass(slots=True)
class _Probe:
    """Looks on while the service is overloaded: at its memory, and at how it says no."""

    service: Service
    refused_s: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    rss: list[int] = field(default_factory=list)
    _is_over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "_Probe":
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        assert self._thread is not None
        self._thread.join()

    def figures(self) -> dict[str, float]:
        """Milliseconds until a 429 was there."""
        cuts = quantiles(self.refused_s, n=100) if len(self.refused_s) > 1 else [0.0] * 99
        return {
            "num": len(self.refused_s),
            "p50": round(cuts[49] * 1e3, 2),
            "p99": round(cuts[98] * 1e3, 2),
            "without_retry_after": self.without_retry_after,
        }

    def megabytes(self) -> dict[str, float]:
        """Resident memory of the service's processes at the first look and at its largest."""
        return {"first": round(self.rss[0] / 1e6), "largest": round(max(self.rss) / 1e6)}

    def _look(self) -> None:
        headers = {"authorization": f"Bearer {self.service.key}"}
        with httpx.Client(base_url=self.service.url, headers=headers, trust_env=False) as client:
            while not self._is_over.wait(0.2):
                began = time.perf_counter()
                reply = client.post("/v1/classify", json={"input": "where is my card"}, timeout=30)
                if reply.status_code == 429:
                    self.refused_s.append(time.perf_counter() - began)
                    self.without_retry_after += "retry-after" not in reply.headers
                self.rss.append(_resident_bytes(self.service.pid))


def _resident_bytes(pid: int) -> int:
    total = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


if __name__ == "__main__":
    main()
