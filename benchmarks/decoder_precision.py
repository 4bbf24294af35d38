"""Claim: in int8 and int4 a decoder of conversations is smaller and no worse to read.

A tiny Llama, fine-tuned on sgd conversations, in fp32, int8 and int4 (rounded to the nearest, by
k-quants, by GPTQ): perplexity of the test replies, size, prompts read and tokens written a second,
each timed in turns with fp32 on as many threads. Greedy text of eight texts at once, with a cache,
must be that of each alone in fp32; how far int8 drifts is told. Trains for some minutes.

    python -m benchmarks.decoder_precision [--steps N] [--runs-dir FOLDER]
"""

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.compressed import run_passes
from benchmarks.harness import alternate, data_file, report, say
from ray_sft.bundle import Bundle
from ray_sft.inference import GenerationEngine, GenerationRequest, Predictor, SlotDecoder
from ray_sft.tasks import Example

RECIPE = "customer_replies"
FORMS = {
    "int8": {"kind": "quantize_int8"},
    "int4": {"kind": "quantize_int4"},
    "int4_k_quant": {"kind": "quantize_int4", "algorithm": "k_quant"},
    "int4_gptq": {"kind": "quantize_int4", "algorithm": "gptq"},
}
NUM_TEXTS, PROMPT, NEW = 8, 64, 48


def main() -> None:
    """Trains, compresses, compares, and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="of the training [200]")
    parser.add_argument("--runs-dir", type=Path, help="where the run is kept; else it is not")
    options = parser.parse_args()
    overrides = [
        f"data.reply.train.path={data_file('sgd', 'train.jsonl')}",
        f"data.reply.eval.path={data_file('sgd', 'test.jsonl')}",
        "vocab_size=4096",
        "before.0.train.steps=80",
        f"train.steps={options.steps}",
    ]
    num_threads = len(os.sched_getaffinity(0))
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        runs = (options.runs_dir or Path(name)).resolve()
        for form, step in FORMS.items():
            bundles = run_passes(RECIPE, [{"kind": "export_onnx"}, step], overrides, runs=runs)
            exact = Bundle.open(bundles / "onnx")
            small = Bundle.open(bundles / ("int8" if form == "int8" else "int4"))
            if not rows:
                prompts = prompts_of(exact)
                check_text(exact, prompts)
                rows["fp32"] = figures(exact)
            rows[form] = figures(small) | speeds(small, exact, prompts, num_threads)
            say(f"{form}: {json.dumps(rows[form])}")
    report(
        "decoder_precision",
        ours=rows["int8"]["perplexity"],
        peer=rows["fp32"]["perplexity"],
        ratio=rows["int8"]["decode"],
        unit="perplexity of int8 and fp32; the ratio is tokens written a second",
        num_threads=num_threads,
        forms=rows,
    )


def figures(bundle: Bundle) -> dict[str, float]:
    """What the chain has measured of a bundle."""
    loss = bundle.manifest.metrics["reply/loss"]
    return {
        "perplexity": round(math.exp(loss), 4),
        "mb": round(bundle.num_bytes / 1e6, 3),
        "drift": round(bundle.manifest.properties["parity"], 5),
    }


def prompts_of(bundle: Bundle) -> list[np.ndarray]:
    """The beginnings of some replies, all of one length."""
    predictor = Predictor(bundle)
    with data_file("sgd", "test.jsonl").open(encoding="utf-8") as file:
        lines = [json.loads(line) for _, line in zip(range(8 * NUM_TEXTS), file, strict=False)]
    encoded = [one for one in predictor.encode(lines) if isinstance(one, Example)]
    long = [one.arrays["input_ids"][:PROMPT] for one in encoded if one.length >= PROMPT]
    return long[:NUM_TEXTS]


def check_text(bundle: Bundle, prompts: Sequence[np.ndarray]) -> None:
    """Ends the program where texts written together are not those written alone."""
    engine = GenerationEngine(bundle, num_slots=NUM_TEXTS)
    try:
        asked = [GenerationRequest(tuple(ids.tolist()), NEW) for ids in prompts]
        alone = ["".join(chunk.text for chunk in engine.submit(one)) for one in asked]
        streams = [engine.submit(one) for one in asked]
        together = ["".join(chunk.text for chunk in stream) for stream in streams]
    finally:
        engine.close()
    if together != alone:
        raise SystemExit("fp32: texts written together differ from those written alone.")
    say(f"fp32: {len(alone)} texts are the same together and alone")


def speeds(
    small: Bundle, exact: Bundle, prompts: Sequence[np.ndarray], num_threads: int
) -> dict[str, float]:
    """Throughput of reading prompts and of writing, over that in fp32."""
    ours, peer = (
        SlotDecoder(
            bundle.model_dir,
            num_slots=NUM_TEXTS,
            num_threads=num_threads,
            spinning=False,
            max_length=PROMPT + NEW,
        )
        for bundle in (small, exact)
    )
    ratios = {}
    work: dict[str, Callable[[SlotDecoder], float]] = {
        "prefill": lambda decoder: prefill(decoder, prompts),
        "decode_alone": lambda decoder: decode(decoder, prompts[:1]),
        "decode": lambda decoder: decode(decoder, prompts),
    }
    for name, run in work.items():
        found = alternate(lambda: run(ours), lambda: run(peer), rounds=7, what=name)  # noqa: B023
        ratios[name] = round(found.median_ours / found.median_peer, 3)
    return ratios


def prefill(decoder: SlotDecoder, prompts: Sequence[np.ndarray]) -> float:
    """Tokens of prompts read a second."""
    began = time.perf_counter()
    for slot, ids in enumerate(prompts):
        decoder.prefill(slot, ids)
    seconds = time.perf_counter() - began
    for slot in range(len(prompts)):
        decoder.release(slot)
    return sum(map(len, prompts)) / seconds


def decode(decoder: SlotDecoder, prompts: Sequence[np.ndarray]) -> float:
    """Tokens written a second, side by side."""
    tokens = np.zeros(NUM_TEXTS, dtype=np.int64)
    live = np.zeros(NUM_TEXTS, dtype=np.bool_)
    for slot, ids in enumerate(prompts):
        tokens[slot] = decoder.prefill(slot, ids).argmax()
        live[slot] = True
    began = time.perf_counter()
    for _ in range(NEW - 1):
        tokens = decoder.decode(tokens, live).argmax(axis=-1)
    seconds = time.perf_counter() - began
    for slot in range(len(prompts)):
        decoder.release(slot)
    return len(prompts) * (NEW - 1) / seconds


if __name__ == "__main__":
    say(__doc__.splitlines()[0])
    main()
