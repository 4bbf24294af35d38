"""What the benchmarks of compression share: runs of recipes, a model timed against its teacher."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import alternate, report, say
from ray_sft.bundle import Bundle
from ray_sft.compression import Compress, ExportOnnx, compress
from ray_sft.inference import Predictor, torch_threads
from ray_sft.models import load_processor, load_tasks
from ray_sft.tasks import Example

__all__ = ["compare", "export", "figures_of", "in_batches", "run_passes"]

BATCH_SIZE = 16


def run_passes(
    recipe: str, passes: Sequence[Mapping[str, Any]], overrides: Sequence[str], *, runs: Path
) -> Path:
    """Trains a recipe, unless that is done, and applies passes; the folder of its bundles.

    No budget stops it, since figures are what is asked for.
    """
    command = [sys.executable, "-m", "ray_sft.cli", "run", recipe, *overrides]
    command += [
        f"compress.passes={json.dumps(list(passes))}",
        "compress.budget={}",
        "compress.min_speedup=0",
        f"--runs-dir={runs}",
    ]
    subprocess.run(command, check=True)
    return runs / recipe / "bundles"


def figures_of(bundles: Path, metric: str) -> dict[str, float]:
    """A figure of each bundle that the last run has reported, by variant."""
    stages = json.loads((bundles.parent / "report.json").read_text(encoding="utf-8"))["stages"]
    return {
        stage["stage"].removeprefix("bundle-"): round(stage["quality"][metric], 4)
        for stage in stages
        if stage["stage"].startswith("bundle-")
    }


def export(teacher: Bundle, folder: Path) -> Bundle:
    """The teacher in ONNX, fp32."""
    (_, exported) = compress(
        Compress(passes=(ExportOnnx(),), min_speedup=0.0),
        teacher,
        examples={},
        out_dir=folder,
        num_threads=1,
        progress=lambda _: None,
    )
    return Bundle.open(exported.path)


def compare(
    name: str,
    student: Bundle,
    teacher: Bundle,
    texts: Sequence[str],
    *,
    rounds: int = 9,
    **more: object,
) -> None:
    """Times a student against its teacher in transformers and in ONNX, and reports it.

    The same texts in the same batches, on as many threads.
    """
    num_threads = len(os.sched_getaffinity(0))
    ours = Predictor(student, num_threads=num_threads)
    tasks = teacher.manifest.tasks
    processor = load_processor(teacher.processor_dir)
    module = load_tasks(str(teacher.model_dir), tasks, processor=processor).eval()
    with tempfile.TemporaryDirectory() as folder:
        exported = Predictor(export(teacher, Path(folder)), num_threads=num_threads)
        batches = in_batches(exported, texts)
        own_batches = in_batches(ours, texts)
        by_transformers = alternate(
            lambda: rows_per_s(ours, own_batches),
            lambda: module_rows_per_s(module, exported, batches, num_threads=num_threads),
            rounds=rounds,
            what="rows/s, against transformers",
        )
        by_onnx = alternate(
            lambda: rows_per_s(ours, own_batches),
            lambda: rows_per_s(exported, batches),
            rounds=rounds,
            what="rows/s, against the teacher in ONNX",
        )
    report(
        name,
        ours=by_transformers.median_ours,
        peer=by_transformers.median_peer,
        ratio=by_transformers.median_ours / by_transformers.median_peer,
        unit=f"rows/s, {num_threads} thread(s)",
        ratio_to_onnx_fp32=round(by_onnx.median_ours / by_onnx.median_peer, 3),
        size_mb=round(student.num_bytes / 1e6, 2),
        times_smaller=round(teacher.num_bytes / student.num_bytes, 2),
        **more,
    )


def in_batches(predictor: Predictor, texts: Sequence[str]) -> list[list[Example]]:
    """The texts in their order, some at a time."""
    encoded = predictor.encode([{"text": text} for text in texts])
    examples = [item for item in encoded if isinstance(item, Example)]
    starts = range(0, len(examples), BATCH_SIZE)
    return [examples[start : start + BATCH_SIZE] for start in starts]


def rows_per_s(predictor: Predictor, batches: Sequence[Sequence[Example]]) -> float:
    """Through a bundle."""
    began = time.perf_counter()
    for batch in batches:
        predictor.run(batch)
    return sum(map(len, batches)) / (time.perf_counter() - began)


def module_rows_per_s(
    module: torch.nn.Module,
    predictor: Predictor,
    batches: Sequence[Sequence[Example]],
    *,
    num_threads: int,
) -> float:
    """Through the teacher, as transformers runs it."""
    collated = [predictor.task.collate(batch, predictor.processor) for batch in batches]
    tensors = [
        {name: torch.from_numpy(batch[name]) for name in ("input_ids", "attention_mask")}
        for batch in collated
    ]
    began = time.perf_counter()
    with torch.inference_mode(), torch_threads(num_threads):
        for batch in tensors:
            module(**batch)
    seconds = time.perf_counter() - began
    say(f"  {sum(map(len, batches)) / seconds:.0f} rows/s in transformers")
    return sum(map(len, batches)) / seconds
