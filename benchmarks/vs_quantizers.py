"""Claim: our int8 is no slower and no less accurate than that of the tools at hand.

Banking77's teacher (`customer_intents`, MiniLM), exported once. Ours: `quantize_int8`. Peers: ONNX
Runtime's `quantize_dynamic` on the products of the same graph, and Optimum's quantizer with the
settings for AVX512-VNNI, which is what sentence-transformers calls, in a virtual environment of its
own below ``.peers/``. All three run in ONNX Runtime, with its own settings for the peers, on the
same sentences in the same batches with as many threads. One line for each peer.

    python -m benchmarks.vs_quantizers [--runs-dir FOLDER] [KEY=VALUE ...]
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.compress_banking77 import RECIPE, data
from benchmarks.compressed import in_batches, run_passes
from benchmarks.harness import alternate, peer_python, report, say
from benchmarks.http_service import sentences
from ray_sft.bundle import Bundle
from ray_sft.data import SampleStore
from ray_sft.inference import Predictor
from ray_sft.tasks import Array, Example

_OPTIMUM = """
import sys
from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
source, out, *operators = sys.argv[1:]
quantizer = ORTQuantizer.from_pretrained(source, file_name="model.onnx")
quantizer.quantize(save_dir=out, quantization_config=AutoQuantizationConfig.avx512_vnni(
    is_static=False, per_channel=True, operators_to_quantize=operators))
"""
_OPERATORS = ("MatMul", "Gemm")
"""Of the peers. With all that they know they take ONNX's Attention for another operator of that
name, and write a graph that ONNX Runtime does not load."""


class Graph:
    """A peer's graph in a plain session of ONNX Runtime."""

    def __init__(self, path: Path, *, num_threads: int) -> None:
        """Loads it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options)

    def logits(self, predictor: Predictor, examples: Sequence[Example]) -> Array:
        """(rows, labels)."""
        batch = predictor.task.collate(examples, predictor.processor)
        feed = {
            entry.name: batch[entry.name].astype(np.int64) for entry in self._session.get_inputs()
        }
        (found,) = self._session.run(["logits"], feed)
        return np.asarray(found)


def main() -> None:
    """Quantizes by each, compares, and prints the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs-dir", type=Path, help="where the run is kept; else it is not")
    parser.add_argument("overrides", nargs="*", help="of the recipe, as for 'ray-sft run'")
    options = parser.parse_args()
    num_threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = (options.runs_dir or folder / "runs").resolve()
        chain = [{"kind": "export_onnx"}, {"kind": "quantize_int8"}]
        bundles = run_passes(RECIPE, chain, [*data(), *options.overrides], runs=runs)
        exported, ours = Bundle.open(bundles / "onnx"), Bundle.open(bundles / "int8")
        peers = {
            "onnxruntime": by_onnxruntime(exported, folder / "onnxruntime"),
            "optimum": by_optimum(exported, Bundle.open(bundles / "trained"), folder / "optimum"),
        }
        predictor = Predictor(ours, num_threads=num_threads)
        own = Graph(ours.model_dir / "model.onnx", num_threads=num_threads)
        rows = SampleStore(bundles.parent / "data" / "trained" / "intent" / "eval").all()
        batches = in_batches(predictor, sentences())
        accuracy = accuracy_of(own, predictor, rows)
        for peer, path in peers.items():
            graph = Graph(path, num_threads=num_threads)
            found = alternate(
                lambda: served_rows_per_s(predictor, batches),
                lambda: rows_per_s(graph, predictor, batches),  # noqa: B023
                rounds=9,
                what=f"rows/s, {peer}",
            )
            report(
                f"vs_quantizers_{peer}",
                ours=found.median_ours,
                peer=found.median_peer,
                ratio=found.median_ours / found.median_peer,
                unit=f"rows/s, {num_threads} thread(s)",
                accuracy=accuracy,
                accuracy_of_peer=accuracy_of(graph, predictor, rows),
                mb=round(ours.num_bytes / 1e6, 2),
                mb_of_peer=round(path.stat().st_size / 1e6, 2),
            )


def by_onnxruntime(exported: Bundle, folder: Path) -> Path:
    """The graph by `quantize_dynamic` as its documentation calls it."""
    folder.mkdir()
    source = folder / "model.onnx"
    shutil.copy(exported.model_dir / "model.onnx", source)
    path = folder / "quantized.onnx"
    quantize_dynamic(
        source, path, weight_type=QuantType.QInt8, op_types_to_quantize=list(_OPERATORS)
    )
    return path


def by_optimum(exported: Bundle, teacher: Bundle, folder: Path) -> Path:
    """The graph by Optimum, which wants the configuration of the model beside it."""
    source = folder / "source"
    source.mkdir(parents=True)
    shutil.copy(exported.model_dir / "model.onnx", source)
    shutil.copy(teacher.model_dir / "config.json", source)
    python = peer_python("optimum", ["optimum-onnx[onnxruntime]", "torch==2.13.0"])
    command = [str(python), "-c", _OPTIMUM, str(source), str(folder / "out"), *_OPERATORS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Optimum failed:\n{done.stderr[-2000:]}")
    (path,) = (folder / "out").glob("*.onnx")
    return path


def accuracy_of(graph: Graph, predictor: Predictor, rows: Sequence[Example]) -> float:
    """Of the evaluation rows, in batches of 16 as they come."""
    right = 0
    for start in range(0, len(rows), 16):
        some = rows[start : start + 16]
        labels = predictor.task.collate(some, predictor.processor)["labels"]
        right += int((graph.logits(predictor, some).argmax(axis=-1) == labels).sum())
    return round(right / len(rows), 4)


def served_rows_per_s(predictor: Predictor, batches: Sequence[Sequence[Example]]) -> float:
    """Through our runner, logits alone, as for the peers."""
    began = time.perf_counter()
    for batch in batches:
        collated = predictor.task.collate(batch, predictor.processor)
        predictor.runner({name: collated[name] for name in ("input_ids", "attention_mask")})
    return sum(map(len, batches)) / (time.perf_counter() - began)


def rows_per_s(graph: Graph, predictor: Predictor, batches: Sequence[Sequence[Example]]) -> float:
    """Through a peer's graph."""
    began = time.perf_counter()
    for batch in batches:
        graph.logits(predictor, batch)
    return sum(map(len, batches)) / (time.perf_counter() - began)


if __name__ == "__main__":
    say(__doc__.splitlines()[0])
    main()
