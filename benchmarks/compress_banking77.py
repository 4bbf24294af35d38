"""Claim: half the layers, distilled and in int8, classify 4 times as fast and lose 1.5 points.

Ours: Banking77's teacher (`customer_intents`, MiniLM) after dropping every other layer, distilling
from the teacher, export and int8. Peer: the teacher itself in transformers, fp32, on the same
sentences in the same batches with as many threads. Trains both, about half an hour on two cores;
a run folder that holds the teacher already is gone on with. The short form trains nothing and
compares the speeds alone.

    python -m benchmarks.compress_banking77 [--quick] [--runs-dir FOLDER] [--epochs N]
                                            [--without-teacher] [KEY=VALUE ...]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from benchmarks.harness import alternate, data_file, report, say
from benchmarks.http_service import build_bundle, sentences
from ray_sft.bundle import Bundle
from ray_sft.compression import DropLayers, ExportOnnx, QuantizeInt8
from ray_sft.inference import Predictor, torch_threads
from ray_sft.tasks import Example

NUM_LAYERS = 3
BATCH_SIZE = 16
RECIPE = "customer_intents"


def main() -> None:
    """Runs the comparison and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ends within 90 seconds")
    parser.add_argument("--runs-dir", type=Path, help="where the run is kept; else it is not")
    parser.add_argument("--epochs", type=int, default=10, help="of the student [10]")
    parser.add_argument(
        "--without-teacher", action="store_true", help="the student learns from the labels alone"
    )
    parser.add_argument("overrides", nargs="*", help="of the recipe, as for 'ray-sft run'")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.quick:
            passes = (DropLayers(keep=NUM_LAYERS), ExportOnnx(), QuantizeInt8())
            student, teacher = build_bundle(Path(name), passes), Bundle.open(Path(name) / "trained")
            quality = {}
        else:
            runs = (options.runs_dir or Path(name)).resolve()
            train(
                runs,
                options.overrides,
                epochs=options.epochs,
                with_teacher=not options.without_teacher,
            )
            bundles = runs / RECIPE / "bundles"
            student, teacher = Bundle.open(bundles / "int8"), Bundle.open(bundles / "trained")
            quality = accuracies(runs / RECIPE)
        num_threads = len(os.sched_getaffinity(0))
        ours = Predictor(student, num_threads=num_threads)
        batches = in_batches(ours, sentences())
        peer = AutoModelForSequenceClassification.from_pretrained(teacher.model_dir).eval()
        figures = alternate(
            lambda: rows_per_s(ours, batches),
            lambda: peer_rows_per_s(peer, ours, batches, num_threads=num_threads),
            rounds=5 if options.quick else 9,
            what="rows/s",
        )
    report(
        "compress_banking77",
        ours=figures.median_ours,
        peer=figures.median_peer,
        ratio=figures.median_ours / figures.median_peer,
        unit=f"rows/s, {num_threads} thread(s)",
        accuracy=quality,
    )


def train(runs: Path, more: Sequence[str], *, epochs: int, with_teacher: bool) -> None:
    """The whole recipe, teacher and student, in a process of its own."""
    terms = "" if with_teacher else ", alpha: 0, hidden_weight: 0"
    passes = (
        f"[{{kind: drop_layers, keep: {NUM_LAYERS}}}, {{kind: distil, epochs: {epochs}{terms}}}, "
        "{kind: export_onnx}, {kind: quantize_int8}]"
    )
    overrides = [f"compress.passes={passes}", "compress.budget={accuracy: -1}"]
    for split, file in (("train", "train.csv"), ("eval", "test.csv")):
        overrides += [
            f"data.intent.{split}.path={data_file('banking77', file)}",
            f"data.intent.{split}.columns.label=category",
        ]
    command = [sys.executable, "-m", "ray_sft.cli", "run", RECIPE, *overrides, *more]
    subprocess.run([*command, "--runs-dir", str(runs)], check=True)


def accuracies(folder: Path) -> dict[str, float]:
    """The accuracy of every variant."""
    stages = json.loads((folder / "report.json").read_text(encoding="utf-8"))["stages"]
    return {
        stage["stage"].removeprefix("bundle-"): round(stage["quality"]["accuracy"], 4)
        for stage in stages
        if stage["stage"].startswith("bundle-")
    }


def in_batches(predictor: Predictor, texts: Sequence[str]) -> list[list[Example]]:
    """The texts in their order, some at a time."""
    encoded = predictor.encode([{"text": text} for text in texts])
    examples = [item for item in encoded if isinstance(item, Example)]
    starts = range(0, len(examples), BATCH_SIZE)
    return [examples[start : start + BATCH_SIZE] for start in starts]


def rows_per_s(predictor: Predictor, batches: Sequence[Sequence[Example]]) -> float:
    """Through the student."""
    began = time.perf_counter()
    for batch in batches:
        predictor.run(batch)
    return sum(map(len, batches)) / (time.perf_counter() - began)


def peer_rows_per_s(
    model: torch.nn.Module,
    predictor: Predictor,
    batches: Sequence[Sequence[Example]],
    *,
    num_threads: int,
) -> float:
    """Through the teacher, as transformers runs it."""
    collated = [predictor.task.collate(batch, predictor.processor) for batch in batches]
    tensors = [{k: torch.from_numpy(v) for k, v in b.items() if k != "labels"} for b in collated]
    began = time.perf_counter()
    with torch.inference_mode(), torch_threads(num_threads):
        for batch in tensors:
            model(**batch)
    return sum(map(len, batches)) / (time.perf_counter() - began)


if __name__ == "__main__":
    say(__doc__.splitlines()[0])
    main()
