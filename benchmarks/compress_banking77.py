"""Claim: within a point of its teacher, a student of Banking77 is 8 times as fast in an eighth.

Ours: the teacher (`customer_intents`, MiniLM) with fewer layers, heads and neurons, distilled from
it, its vocabulary pruned, exported, in int8. Peers: the teacher itself in transformers, fp32, and
the teacher in ONNX, fp32, on the same sentences in the same batches with as many threads. Trains
both, about half an hour on two cores; a run folder that holds the teacher already is gone on with.
The short form trains nothing and compares the speeds alone.

    python -m benchmarks.compress_banking77 [--quick] [--runs-dir FOLDER] [--layers N] [--heads X]
        [--neurons X] [--vocabulary N] [--epochs N] [--without-teacher] [KEY=VALUE ...]
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.compressed import compare, figures_of, run_passes
from benchmarks.harness import data_file, say
from benchmarks.http_service import build_bundle, sentences
from ray_sft.bundle import Bundle
from ray_sft.compression import DropLayers, ExportOnnx, QuantizeInt8

RECIPE = "customer_intents"


def main() -> None:
    """Runs the comparison and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ends within 90 seconds")
    parser.add_argument("--runs-dir", type=Path, help="where the run is kept; else it is not")
    parser.add_argument("--layers", type=int, default=3, help="that are left, of 6 [3]")
    parser.add_argument("--heads", type=float, default=0.25, help="share taken away [0.25]")
    parser.add_argument("--neurons", type=float, default=0.5, help="share taken away [0.5]")
    parser.add_argument("--vocabulary", type=int, default=8000, help="first tokens kept [8000]")
    parser.add_argument("--epochs", type=int, default=10, help="of the student [10]")
    parser.add_argument(
        "--without-teacher", action="store_true", help="the student learns from the labels alone"
    )
    parser.add_argument("overrides", nargs="*", help="of the recipe, as for 'ray-sft run'")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.quick:
            steps = (DropLayers(keep=options.layers), ExportOnnx(), QuantizeInt8())
            student = build_bundle(Path(name), steps)
            compare(
                "compress_banking77",
                student,
                Bundle.open(Path(name) / "trained"),
                sentences(),
                rounds=5,
            )
            return
        runs = (options.runs_dir or Path(name)).resolve()
        bundles = run_passes(RECIPE, passes(options), [*data(), *options.overrides], runs=runs)
        compare(
            "compress_banking77",
            Bundle.open(bundles / "int8"),
            Bundle.open(bundles / "trained"),
            sentences(),
            accuracy=figures_of(bundles, "accuracy"),
        )


def data() -> list[str]:
    """Banking77 in place of the recipe's rows."""
    overrides = []
    for split, file in (("train", "train.csv"), ("eval", "test.csv")):
        overrides += [
            f"data.intent.{split}.path={data_file('banking77', file)}",
            f"data.intent.{split}.columns.label=category",
        ]
    return overrides


def passes(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The chain; what takes nothing away is left out."""
    terms = {"alpha": 0.0, "hidden_weight": 0.0} if options.without_teacher else {}
    chain: list[dict[str, Any]] = [{"kind": "drop_layers", "keep": options.layers}]
    if options.heads:
        chain.append({"kind": "prune_heads", "ratio": options.heads})
    if options.neurons:
        chain.append({"kind": "prune_feed_forward", "ratio": options.neurons})
    chain.append({"kind": "distil", "epochs": options.epochs, **terms})
    if options.vocabulary:
        chain.append({"kind": "prune_vocabulary", "keep_first": options.vocabulary})
    return [*chain, {"kind": "export_onnx"}, {"kind": "quantize_int8"}]


if __name__ == "__main__":
    say(__doc__.splitlines()[0])
    main()
