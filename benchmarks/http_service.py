"""What the HTTP benchmarks share: the model, the texts, the service, the load, the bare peer."""

import csv
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import httpx
import torch

from benchmarks.harness import data_file, say
from ray_sft.bundle import Bundle, BundleWriter, Manifest
from ray_sft.compression import ExportOnnx, Pass, QuantizeInt8
from ray_sft.inference import Predictor, record_samples
from ray_sft.models import MINILM, load_model, load_processor, locate
from ray_sft.tasks import Example, SequenceClassification
from serve.args import ServiceArgs

__all__ = [
    "Load",
    "Service",
    "bare_latency_ms",
    "bare_throughput",
    "build_bundle",
    "cut_texts",
    "load",
    "sentences",
    "start_service",
    "with_own_samples",
]

NUM_LABELS = 77
NUM_TEXTS = 1024

_PROGRAM = """
import sys
from serve import ServiceArgs, run_service
args = ServiceArgs.model_validate_json(sys.argv[1])
run_service(args, on_ready=lambda url: print("READY", url, flush=True))
"""
_LUA = """
local bodies, n = {}, 0
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("KEY")
wrk.headers["Content-Type"] = "application/json"
request = function()
  n = n + 1
  return wrk.format(nil, nil, nil, bodies[n % #bodies + 1])
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What a load generator saw."""

    requests_per_s: float
    median_ms: float


@dataclass(frozen=True, slots=True)
class Service:
    """A service that runs in processes of its own."""

    url: str
    key: str
    args: ServiceArgs
    pid: int = 0
    """Of the process that has started all others; 0 for a peer."""

    def batch_sizes(self) -> dict[int, int]:
        """How many batches of each size have run so far."""
        headers = {"authorization": f"Bearer {self.key}"}
        text = httpx.get(f"{self.url}/metrics", headers=headers, trust_env=False).text
        pattern = r'ray_sft_batch_texts_bucket\{le="([\d.]+)",model="bench"\} ([\d.]+)'
        upto = [(int(float(le)), int(float(count))) for le, count in re.findall(pattern, text)]
        former = [0, *(count for _, count in upto[:-1])]
        return {size: count - one for (size, count), one in zip(upto, former, strict=True)}


def build_bundle(folder: Path, passes: Sequence[Pass] = (ExportOnnx(), QuantizeInt8())) -> Bundle:
    """MiniLM with a head of 77 labels that is untrained but seeded, after some passes.

    ``folder/trained`` is what they started from.
    """
    say(f"building {passes[-1].variant} of {MINILM} with {NUM_LABELS} labels")
    labels = tuple(f"label_{number:02d}" for number in range(NUM_LABELS))
    task = SequenceClassification(labels=labels, max_length=128)
    source = locate(MINILM)
    processor = load_processor(source.processor)
    torch.manual_seed(0)
    model = load_model(source.model, task, processor=processor)
    manifest = Manifest(name="bench", variant="trained", format="torch", tasks={"intent": task})
    answer = {"label": labels[0], "score": 1.0, "scores": []}
    requests = ("the card was charged twice for one and the same order", "where is my parcel")
    samples = [{"request": {"text": text}, "response": answer} for text in requests]
    with BundleWriter(folder / "trained") as out:
        model.save_pretrained(out.model_dir)  # type: ignore[operator] # PreTrainedModel's method
        processor.save_pretrained(out.processor_dir)
        out.write_samples(samples)
        bundle = out.finish(manifest)
    for step in passes:
        bundle = _apply(step, bundle, folder)
    return with_own_samples(bundle)


def _apply(step: Pass, source: Bundle, folder: Path) -> Bundle:
    update = {"variant": step.variant, "format": step.produces, "files": {}}
    with BundleWriter(folder / step.variant) as out:
        step.apply(source, out)
        out.copy_processor(source)
        out.write_samples(source.samples())
        return out.finish(source.manifest.model_copy(update=update))


def with_own_samples(
    bundle: Bundle, requests: Sequence[Mapping[str, object]] | None = None
) -> Bundle:
    """The bundle with what it answers itself as its samples, in the place of the former one.

    ``requests`` are those of its former samples where they are left out.
    """
    asked = requests or [sample["request"] for sample in bundle.samples()]
    samples = record_samples(Predictor(bundle), asked)
    with BundleWriter(bundle.path) as out:
        shutil.copytree(bundle.model_dir, out.model_dir, dirs_exist_ok=True)
        out.copy_processor(bundle)
        out.write_samples(samples)
        return out.finish(bundle.manifest.model_copy(update={"files": {}}))


def cut_texts(predictor: Predictor, *, num_tokens: int) -> list[str]:
    """MedQuAD answers, each cut to exactly ``num_tokens`` tokens."""
    texts: list[str] = []
    tokenizer = predictor.processor
    with data_file("medquad", "qa.jsonl").open(encoding="utf-8") as file:
        for line in file:
            answer = (json.loads(line).get("answer") or "")[: 32 * num_tokens]
            encoded = tokenizer(
                answer,
                add_special_tokens=False,
                return_offsets_mapping=True,
                truncation=True,
                max_length=num_tokens - 2,
            )
            if len(encoded["input_ids"]) < num_tokens - 2:
                continue
            text = answer[: encoded["offset_mapping"][-1][1]]
            if len(tokenizer(text)["input_ids"]) == num_tokens:
                texts.append(text)
            if len(texts) == NUM_TEXTS:
                break
    return texts


def sentences() -> list[str]:
    """Banking77's test sentences."""
    with data_file("banking77", "test.csv").open(encoding="utf-8", newline="") as file:
        return [row["text"] for row in islice(csv.DictReader(file), NUM_TEXTS)]


@contextmanager
def start_service(bundle: Bundle, **options: object) -> Iterator[Service]:
    """The service with its defaults, but for ``options`` of `ServiceArgs`; stopped afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        tree = {"bundles": {"bench": str(bundle.path)}, "port": port} | options
        args = ServiceArgs.model_validate(tree | {"keys_file": f"{folder}/keys.json"})
        say(f"starting the service: {args.num_cpus} CPU(s), proxy {args.proxy}")
        key = secrets.token_urlsafe(32)
        environment = {name: value for name, value in os.environ.items() if "RAY" not in name}
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, args.model_dump_json()],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment | {"RAY_SFT_API_KEYS": key},
        )
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith("READY")), "")
            if not line:
                raise SystemExit("the service did not start; try it with 'ray-sft serve'.")
            yield Service(line.split()[1], key, args, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=90)


def load(
    service: Service,
    texts: Sequence[str],
    *,
    num_connections: int,
    seconds: float,
    path: str = "/v1/classify",
    body: Callable[[str], Mapping[str, object]] = lambda text: {"input": text},
) -> Load:
    """Asks ``path`` one text a request, over ``num_connections`` connections at once."""
    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder) / "bodies"
        lines = [json.dumps(body(text), ensure_ascii=False) + "\n" for text in texts]
        bodies.write_text("".join(lines), encoding="utf-8")
        environment = os.environ | {"KEY": service.key, "BODIES": str(bodies)}
        url = f"{service.url}{path}"
        if shutil.which("wrk") is None:
            command = [sys.executable, "-m", "benchmarks.http_load"]
            command += [url, str(num_connections), str(seconds)]
        else:
            script = Path(folder) / "load.lua"
            script.write_text(_LUA, encoding="utf-8")
            command = ["wrk", "-t1", f"-c{num_connections}", f"-d{round(seconds)}s", "--latency"]
            command += ["-s", str(script), url]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=True
        )
    return _read_load(done.stdout)


def _read_load(text: str) -> Load:
    if found := re.search(r"(Non-2xx.*|Socket errors.*)", text):
        raise SystemExit(f"the service did not answer every request: {found[1]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    latency = re.search(r"50%\s+([\d.]+)(us|ms|s)", text)
    assert rate is not None, text
    assert latency is not None, text
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}[latency[2]]
    return Load(float(rate[1]), float(latency[1]) * scale)


def bare_throughput(
    predictor: Predictor,
    examples: Sequence[Example],
    sizes: Mapping[int, int],
    *,
    seconds: float,
) -> float:
    """Texts a second of bare ONNX Runtime, in batches of ``sizes`` (size to how often)."""
    order = [size for size, count in sizes.items() for _ in range(count)]
    random.Random(0).shuffle(order)
    source = cycle(examples)
    batches = [
        predictor.task.collate(list(islice(source, size)), predictor.processor)
        for size in order[:200]
    ]
    for batch in batches:
        del batch["labels"]
    predictor.runner(batches[0])
    num_texts, start = 0, time.perf_counter()
    for batch in cycle(batches):
        predictor.runner(batch)
        num_texts += len(batch["input_ids"])
        if time.perf_counter() - start >= seconds:
            break
    return num_texts / (time.perf_counter() - start)


def bare_latency_ms(predictor: Predictor, examples: Sequence[Example], *, seconds: float) -> float:
    """Median milliseconds of bare ONNX Runtime for one text at a time."""
    batches = [predictor.task.collate([example], predictor.processor) for example in examples[:256]]
    for batch in batches:
        del batch["labels"]
    predictor.runner(batches[0])
    times: list[float] = []
    ends_at = time.perf_counter() + seconds
    for batch in cycle(batches):
        start = time.perf_counter()
        predictor.runner(batch)
        times.append(time.perf_counter() - start)
        if time.perf_counter() >= ends_at:
            break
    return median(times) * 1e3
