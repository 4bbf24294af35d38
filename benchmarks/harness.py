"""What every benchmark shares: alternation, medians, the data's place, and the last line.

Ours and the peer run in turn, several times, so that a neighbour's load or a processor's mood
falls on both; the figures are medians.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

__all__ = ["Comparison", "alternate", "data_file", "machine", "peer_python", "report", "say"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures of rounds that were run in turn."""

    ours: tuple[float, ...]
    peer: tuple[float, ...]

    @property
    def median_ours(self) -> float:
        """The median over the rounds."""
        return median(self.ours)

    @property
    def median_peer(self) -> float:
        """The median over the rounds."""
        return median(self.peer)


def alternate(
    ours: Callable[[], float], peer: Callable[[], float], *, rounds: int, what: str
) -> Comparison:
    """Runs both in turn; each returns one figure."""
    pairs: list[tuple[float, float]] = []
    for number in range(1, rounds + 1):
        pairs.append((ours(), peer()))
        say(f"{what}, round {number} of {rounds}: ours {pairs[-1][0]:.4g}, peer {pairs[-1][1]:.4g}")
    return Comparison(tuple(one for one, _ in pairs), tuple(other for _, other in pairs))


def data_file(*parts: str) -> Path:
    """A file of the shared data beside the checkout; ends the program where it is absent."""
    path = Path(__file__).resolve().parents[2].joinpath("shared", "data", *parts)
    if not path.is_file():
        shown = Path("..", "shared", "data", *parts)
        raise SystemExit(f"this benchmark reads '{shown}' beside the checkout, which is not there.")
    return path


def peer_python(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of a peer's own virtual environment, made where it is missing."""
    folder = Path(__file__).resolve().parents[1] / ".peers" / name
    python, whole = folder / "bin" / "python", folder / "installed"
    if not whole.is_file():
        say(f"installing {', '.join(requirements)} into {folder.name}'s own environment ...")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        whole.touch()
    return python


def machine() -> str:
    """The processor, the cores that this process may use, and the memory."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = next(iter(names), model)
    gib = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    num_cores = len(os.sched_getaffinity(0))
    return f"{model}, {num_cores} cores, {gib:.0f} GiB, load {load:.1f}"


def report(name: str, *, ours: float, peer: float, ratio: float, unit: str, **more: object) -> None:
    """Prints the last line."""
    figures = {"name": name, "ours": _rounded(ours), "peer": _rounded(peer)}
    figures |= {"ratio": round(ratio, 3), "unit": unit, "machine": machine()}
    print(json.dumps(figures | more), flush=True)


def say(text: str) -> None:
    """Tells what is being done."""
    print(text, flush=True)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
