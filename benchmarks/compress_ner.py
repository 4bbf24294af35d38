"""Claim: within 1.5 points of entity F1, a student on BC5CDR is 4 times as fast as its teacher.

Ours: the teacher (`entities`, MiniLM, chemicals and diseases) with fewer layers, distilled from it,
its vocabulary pruned, exported, in int8. Peers as in `compress_banking77`, on the test sentences.
Trains both, about half an hour on two cores.

    python -m benchmarks.compress_ner [--runs-dir FOLDER] [--layers N] [--epochs N] [KEY=VALUE ...]
"""

import argparse
import tempfile
from itertools import islice
from pathlib import Path

from benchmarks.compressed import compare, figures_of, run_passes
from benchmarks.harness import data_file, say
from ray_sft.bundle import Bundle

RECIPE = "entities"
NUM_TEXTS = 512


def main() -> None:
    """Runs the comparison and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs-dir", type=Path, help="where the run is kept; else it is not")
    parser.add_argument("--layers", type=int, default=3, help="that are left, of 6 [3]")
    parser.add_argument("--epochs", type=int, default=5, help="of the student [5]")
    parser.add_argument("overrides", nargs="*", help="of the recipe, as for 'ray-sft run'")
    options = parser.parse_args()
    chain = [
        {"kind": "drop_layers", "keep": options.layers},
        {"kind": "distil", "epochs": options.epochs},
        {"kind": "prune_vocabulary"},
        {"kind": "export_onnx"},
        {"kind": "quantize_int8"},
    ]
    overrides = ["tasks.entity.max_length=256", "train.epochs=3"]
    for split, file in (("train", "train.tsv"), ("eval", "test.tsv")):
        source = f"{{source: conll, path: '{data_file('bc5cdr', file)}'}}"
        overrides.append(f"data.entity.{split}={source}")
    with tempfile.TemporaryDirectory() as name:
        runs = (options.runs_dir or Path(name)).resolve()
        bundles = run_passes(RECIPE, chain, [*overrides, *options.overrides], runs=runs)
        compare(
            "compress_ner",
            Bundle.open(bundles / "int8"),
            Bundle.open(bundles / "trained"),
            texts(),
            f1=figures_of(bundles, "f1"),
        )


def texts() -> list[str]:
    """Test sentences, one a blank line ends."""
    content = data_file("bc5cdr", "test.tsv").read_text(encoding="utf-8")
    blocks = (block for block in content.split("\n\n") if block.strip())
    return [
        " ".join(line.split("\t")[0] for line in block.strip().splitlines())
        for block in islice(blocks, NUM_TEXTS)
    ]


if __name__ == "__main__":
    say(__doc__.splitlines()[0])
    main()
