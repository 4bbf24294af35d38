"""Memory of the data stage on ten times the text: it must not grow with the data.

Ours is the peak on 2 GB of generated text, the peer the peak of the same stage, with the same
settings, on 200 MB; the ratio is small over large, so 1 is perfect and 0.87 the bound (15 %). Each
size runs in a process of its own with a Ray of its own. Counted is the proportional set size of
that process and everything below it: what they hold together, pages that they share once.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.harness import report, say

_OBJECT_STORE_BYTES = 256 * 1024 * 1024
_WORDS = 20_000
_MEGABYTE = 1_000_000


def write_text(path: Path, num_bytes: int) -> None:
    """Rows of JSON lines of 20 to 120 words, drawn as often as words of a language are."""
    rng = np.random.default_rng(num_bytes)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(_WORDS)])
    chances = 1 / np.arange(1, _WORDS + 1)
    chances /= chances.sum()
    with path.open("w", encoding="utf-8") as file:
        written, number = 0, 0
        while written < num_bytes:
            drawn = rng.choice(words, 200_000, p=chances).tolist()
            start = 0
            while start < len(drawn):
                stop = start + int(rng.integers(20, 120))
                text = " ".join(drawn[start:stop])
                line = json.dumps({"id": f"r{number}", "text": text, "label": "ab"[number % 2]})
                written += file.write(line + "\n")
                start, number = stop, number + 1


def prepare_rows(path: Path, folder: Path) -> None:
    """The data stage, as a run has it."""
    import ray

    from ray_sft.data import Jsonl, Splits, prepare
    from ray_sft.models import locate
    from ray_sft.tasks import SequenceClassification

    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    few = path.with_suffix(".few.jsonl")
    with path.open(encoding="utf-8") as source, few.open("w", encoding="utf-8") as target:
        target.writelines(line for line, _ in zip(source, range(100), strict=False))
    began = time.perf_counter()
    summary = prepare(
        SequenceClassification(labels=("a", "b"), max_length=128),
        Splits(train=Jsonl(path=str(path)), eval=Jsonl(path=str(few))),
        processor_dir=Path(locate("embedded/minilm").processor),
        out_dir=folder,
        num_tasks=2,
    )
    seconds = time.perf_counter() - began
    figures = {"rows": summary.splits["train"].num_accepted, "seconds": seconds}
    print(json.dumps(figures), flush=True)
    ray.shutdown()


class _Watch:
    """The peak of a process and of everything below it."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            self.peak = max(self.peak, self._held())

    def _held(self) -> int:
        total = 0
        for process in [self._process, *self._process.children(recursive=True)]:
            try:
                total += process.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return total

    def end(self) -> int:
        """Stops, and tells the peak in bytes."""
        self._stop.set()
        self._thread.join()
        return self.peak


def peak(num_bytes: int, folder: Path) -> int:
    """The peak of the data stage on so much text, in bytes."""
    path = folder / f"{num_bytes}.jsonl"
    write_text(path, num_bytes)
    command = [sys.executable, "-m", "benchmarks.data_memory", "--prepare", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        watch = _Watch(process.pid)
        said = process.communicate()[0]
        held = watch.end()
    if process.returncode:
        raise SystemExit(f"the data stage ended with status {process.returncode}")
    figures = json.loads(said.strip().splitlines()[-1])
    say(
        f"{num_bytes / _MEGABYTE:.0f} MB of text: {held / _MEGABYTE:.0f} MB at the peak, "
        f"{figures['rows']} rows in {figures['seconds']:.0f} s "
        f"({num_bytes / _MEGABYTE / figures['seconds']:.1f} MB/s)"
    )
    path.unlink()
    return held


def main() -> None:
    """Runs both sizes and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the text")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.prepare:
        with tempfile.TemporaryDirectory() as folder:
            prepare_rows(args.prepare, Path(folder) / "shards")
        return
    small = 20 * _MEGABYTE if args.quick else 200 * _MEGABYTE
    with tempfile.TemporaryDirectory() as name:
        few, many = (peak(size, Path(name)) for size in (small, 10 * small))
    report(
        "data_memory",
        ours=many / _MEGABYTE,
        peer=few / _MEGABYTE,
        ratio=few / many,
        unit="MB at the peak",
        text_mb=10 * small / _MEGABYTE,
    )


if __name__ == "__main__":
    main()
