"""What each step of a compression brings and costs by itself, with and without distillation.

Each row is the teacher of Banking77 with one kind of cut (layers, heads, neurons, vocabulary), or
none, exported and in int8: accuracy, size, and throughput over that of the teacher in torch, timed
in turns by the chain itself. What is cut stands there twice, distilled and as it was cut. Trains a
teacher and three students, about an hour on two cores; a run folder is gone on with.

    python -m benchmarks.compression_steps --runs-dir FOLDER [--epochs N] [KEY=VALUE ...]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.compress_banking77 import RECIPE, data
from benchmarks.compressed import run_passes
from benchmarks.harness import machine, say

CUTS: dict[str, dict[str, Any]] = {
    "half of the layers": {"kind": "drop_layers", "keep": 3},
    "half of the heads": {"kind": "prune_heads", "ratio": 0.5},
    "half of the neurons": {"kind": "prune_feed_forward", "ratio": 0.5},
}
WRITTEN = [{"kind": "export_onnx"}, {"kind": "quantize_int8"}]


def main() -> None:
    """Runs every chain and prints the table, then the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs-dir", type=Path, required=True, help="where the run is kept")
    parser.add_argument("--epochs", type=int, default=10, help="of the students [10]")
    parser.add_argument("overrides", nargs="*", help="of the recipe, as for 'ray-sft run'")
    options = parser.parse_args()
    distil = {"kind": "distil", "epochs": options.epochs}
    chains: dict[str, list[dict[str, Any]]] = {
        "nothing": WRITTEN,
        "vocabulary": [{"kind": "prune_vocabulary"}, *WRITTEN],
    }
    for name, cut in CUTS.items():
        chains[name] = [cut, *WRITTEN]
        chains[f"{name}, distilled"] = [cut, distil, *WRITTEN]
    rows = {}
    for name, chain in chains.items():
        overrides = [*data(), *options.overrides]
        bundles = run_passes(RECIPE, chain, overrides, runs=options.runs_dir.resolve())
        rows[name] = figures(bundles)
    say("| cut | form | accuracy | MB | throughput over the teacher |\n|---|---|---:|---:|---:|")
    for name, forms in rows.items():
        for form, found in forms.items():
            cells = (name, form, f"{found['accuracy']:.4f}", f"{found['mb']:.1f}")
            say(f"| {' | '.join(cells)} | {found['speedup']:.2f} |")
    best = max(rows, key=lambda name: rows[name]["int8"]["speedup"])
    line = {"name": "compression_steps", "ratio": rows[best]["int8"]["speedup"], "best": best}
    print(json.dumps(line | {"machine": machine(), "rows": rows}), flush=True)


def figures(bundles: Path) -> dict[str, dict[str, float]]:
    """Of the teacher and of the last two bundles of a chain, by variant."""
    stages = json.loads((bundles.parent / "report.json").read_text(encoding="utf-8"))["stages"]
    found = {
        stage["stage"].removeprefix("bundle-"): {
            "accuracy": round(stage["quality"]["accuracy"], 4),
            "mb": round(stage["size_bytes"] / 1e6, 2),
            "speedup": round(stage["speed"]["speedup"], 3),
        }
        for stage in stages
        if stage["stage"].startswith("bundle-")
    }
    return {name: found[name] for name in ("trained", "onnx", "int8")}


if __name__ == "__main__":
    say(__doc__.splitlines()[0])
    main()
