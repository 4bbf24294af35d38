"""Claim: replies that come and go share the model's work, without changing each other.

A Llama of 28 million parameters, untrained but seeded, in fp32 and int8, through the engine that
the service uses. Ours: requests of uneven length, each taken in as soon as a slot is free. Peer:
onnxruntime-genai's own batched Generator on the same graph and as many threads, whose batches end
with their longest request. Beside it: eight streams against one, whether text is that of single
runs, how soon a latecomer's first token is there, and the memory of 10,000 requests.

    python -m benchmarks.generation [--quick]
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime_genai as genai
import psutil
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.harness import alternate, report, say
from ray_sft.bundle import Bundle, BundleWriter, Manifest
from ray_sft.compression import ExportOnnx, Pass, QuantizeInt8
from ray_sft.core import ServeError
from ray_sft.inference import GenerationEngine, GenerationRequest, GenerationStream
from ray_sft.models import train_tokenizer
from ray_sft.tasks import CausalLanguageModel

NUM_SLOTS = 8
VOCAB_SIZE = 4096
MAX_LENGTH = 256
NUM_REQUESTS = 24
NUM_MANY = 10_000
SAMPLES = [{"request": {"messages": [{"role": "user", "content": "hello"}]}, "response": {}}]


def main() -> None:
    """Runs everything and prints the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ends within 90 seconds")
    options = parser.parse_args()
    rounds, num_many = (3, 1000) if options.quick else (5, NUM_MANY)
    with tempfile.TemporaryDirectory() as name:
        exact, small = build(Path(name))
        figures = {
            form: measure(bundle, rounds) for form, bundle in (("fp32", exact), ("int8", small))
        }
        check_text(exact)
        steps = latecomer(small)
        growth = memory(small, num_many)
    best = figures["fp32"]
    report(
        "generation",
        ours=best["ours"],
        peer=best["peer"],
        ratio=best["ours"] / best["peer"],
        unit=f"tokens/s, {NUM_SLOTS} at a time, fp32, {num_threads()} threads",
        forms={
            form: {key: round(value, 3) for key, value in one.items()}
            for form, one in figures.items()
        },
        steps_until_a_latecomers_first_token=steps,
        megabytes_grown=growth,
        after_requests=num_many,
    )


def num_threads() -> int:
    """The processors of this process."""
    return len(os.sched_getaffinity(0))


def build(folder: Path) -> tuple[Bundle, Bundle]:
    """The model in fp32 and in int8."""
    say("building a Llama of 28 million parameters")
    words = Path(__file__).resolve().parents[1].rglob("ray_sft/**/*.py")
    tokenizer = train_tokenizer(
        [path.read_text(encoding="utf-8") for path in words], vocab_size=VOCAB_SIZE
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    say(f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.0f} million parameters")
    task = CausalLanguageModel(max_length=1024)
    manifest = Manifest(name="bench", variant="trained", format="torch", tasks={"reply": task})
    with BundleWriter(folder / "trained") as out:
        model.save_pretrained(out.model_dir)
        tokenizer.save_pretrained(out.processor_dir)
        out.write_samples(SAMPLES)
        bundle = out.finish(manifest)
    exact = _apply(ExportOnnx(), bundle, folder)
    return exact, _apply(QuantizeInt8(), exact, folder)


def _apply(step: Pass, source: Bundle, folder: Path) -> Bundle:
    update = {"variant": step.variant, "format": step.produces, "files": {}}
    with BundleWriter(folder / step.variant) as out:
        step.apply(source, out)
        out.copy_processor(source)
        out.write_samples(SAMPLES)
        return out.finish(source.manifest.model_copy(update=update))


def requests(num: int = NUM_REQUESTS) -> list[GenerationRequest]:
    """Prompts of 8 to 60 tokens, continued by 16 to 96."""
    rng = np.random.default_rng(0)
    return [
        GenerationRequest(
            tuple(rng.integers(300, VOCAB_SIZE - 100, size=rng.integers(8, 60)).tolist()),
            int(rng.integers(16, 97)),
        )
        for _ in range(num)
    ]


def measure(bundle: Bundle, rounds: int) -> dict[str, float]:
    """Tokens a second of ours and of the peer, and of eight streams over one."""
    asked = requests()
    engine = GenerationEngine(
        bundle,
        num_slots=NUM_SLOTS,
        num_threads=num_threads(),
        max_length=MAX_LENGTH,
        max_cached_tokens=0,
    )
    peer = genai.Model(genai.Config(str(bundle.model_dir)))
    try:
        together(engine, asked)  # warm
        found = alternate(
            lambda: together(engine, asked),
            lambda: batches_of_genai(peer, asked),
            rounds=rounds,
            what=f"{bundle.manifest.variant} against genai's Generator",
        )
        even = [GenerationRequest(one.prompt_ids, 64) for one in asked[:NUM_SLOTS]]
        streams = alternate(
            lambda: together(engine, even),
            lambda: one_by_one(engine, even[:3]),
            rounds=rounds,
            what=f"{bundle.manifest.variant}, eight streams against one",
        )
    finally:
        engine.close()
    return {
        "ours": found.median_ours,
        "peer": found.median_peer,
        "ratio": found.median_ours / found.median_peer,
        "eight_streams": streams.median_ours,
        "one_stream": streams.median_peer,
        "streams_ratio": streams.median_ours / streams.median_peer,
    }


def together(engine: GenerationEngine, asked: Sequence[GenerationRequest]) -> float:
    """Tokens a second where all requests are there at once."""
    began = time.perf_counter()
    streams = [engine.submit(one) for one in asked]
    total = sum(num_tokens(stream) for stream in streams)
    return total / (time.perf_counter() - began)


def one_by_one(engine: GenerationEngine, asked: Sequence[GenerationRequest]) -> float:
    """Tokens a second where each waits for the former."""
    began = time.perf_counter()
    total = sum(num_tokens(engine.submit(one)) for one in asked)
    return total / (time.perf_counter() - began)


def num_tokens(stream: GenerationStream) -> int:
    """Reads a reply to its end."""
    *_, last = stream
    return last.num_tokens


def batches_of_genai(model: "genai.Model", asked: Sequence[GenerationRequest]) -> float:
    """Useful tokens a second of genai's Generator, eight requests a batch.

    A batch's rows are padded to its longest prompt and run until its longest reply is there; what
    a row goes on with after its own end is not counted.
    """
    began, total = time.perf_counter(), 0
    for first in range(0, len(asked), NUM_SLOTS):
        group = asked[first : first + NUM_SLOTS]
        width = max(len(one.prompt_ids) for one in group)
        num_steps = max(one.max_tokens for one in group)
        params = genai.GeneratorParams(model)
        params.set_search_options(
            batch_size=len(group),
            max_length=width + num_steps,
            min_length=width + num_steps,
            do_sample=False,
        )
        pad = 0
        rows = [(*one.prompt_ids, *[pad] * (width - len(one.prompt_ids))) for one in group]
        generator = genai.Generator(model, params)
        generator.append_tokens(np.asarray(rows, dtype=np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        total += sum(one.max_tokens for one in group)
    return total / (time.perf_counter() - began)


def check_text(bundle: Bundle) -> None:
    """Ends the program where a reply depends on its neighbours."""
    engine = GenerationEngine(bundle, num_slots=NUM_SLOTS, num_threads=num_threads())
    try:
        asked = requests(16)
        alone = ["".join(chunk.text for chunk in engine.submit(one)) for one in asked]
        streams = [engine.submit(one) for one in asked]
        found = ["".join(chunk.text for chunk in stream) for stream in streams]
    finally:
        engine.close()
    if found != alone:
        raise SystemExit("fp32: replies written together differ from those written alone.")
    say(f"fp32: {len(alone)} replies are the same together and alone")


def latecomer(bundle: Bundle) -> int:
    """Tokens that a running reply gains between a request and its first token, at worst."""
    engine = GenerationEngine(bundle, num_slots=NUM_SLOTS, num_threads=num_threads())
    seen = 0
    running = [
        engine.submit(GenerationRequest(one.prompt_ids, 190)) for one in requests(NUM_SLOTS - 1)
    ]

    def follow(stream: GenerationStream) -> None:
        nonlocal seen
        with suppress(ServeError):  # the engine is closed before the reply's end
            for chunk in stream:
                seen = chunk.num_tokens

    reader = threading.Thread(target=follow, args=(running[0],))
    reader.start()
    worst = 0
    try:
        for one in requests(40)[20:30]:
            while seen < 8:
                time.sleep(0.001)
            before = seen
            next(iter(engine.submit(GenerationRequest(one.prompt_ids, 1))))
            worst = max(worst, seen - before)
    finally:
        engine.close()
        reader.join()
    say(f"a latecomer's first token: {worst} steps of the others at worst")
    return worst


def memory(bundle: Bundle, num: int) -> float:
    """Megabytes that the process grows by between the first tenth of ``num`` requests and all."""
    engine = GenerationEngine(
        bundle, num_slots=NUM_SLOTS, num_threads=num_threads(), max_queued=num
    )
    rng = np.random.default_rng(1)
    process, early = psutil.Process(), 0
    try:
        for tenth in range(1, 11):
            prompts = [
                rng.integers(300, 3000, size=rng.integers(4, 24)).tolist() for _ in range(num // 10)
            ]
            streams = [engine.submit(GenerationRequest(tuple(one), 2)) for one in prompts]
            for stream in streams:
                num_tokens(stream)
            early = early or process.memory_info().rss
            say(f"{tenth * num // 10} requests: {process.memory_info().rss / 1e6:.0f} MB")
        return round((process.memory_info().rss - early) / 1e6, 1)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
