"""How much of a GPU's arithmetic a training step uses (model-FLOPs utilisation), and where it goes.

A Llama of a billion parameters with random weights, rows of 4,096 tokens, bf16, one GPU, our own
training loop under DeepSpeed; every setting runs in a process of its own. Counted is what the
model asks for: 6 operations a parameter and token, and those of causal attention, of which half
of the square is looked at. The peak is the data sheet's, of dense bf16 products; beside it stands
what one large product reaches on this card. Needs a CUDA device; reads no data.
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import report, say

_ROWS_PER_STEP = 16
_WARM_UP = 4
_PEAKS: Final = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""Dense bf16 operations a second by NVIDIA's data sheets (the SXM forms)."""
_SHAPES: Final = {
    # layers, width, width of the feed-forward part, heads, their keys and values, tokens of a row
    "1.1B": (16, 2048, 8192, 32, 8, 4096),
    "tiny": (2, 128, 256, 4, 2, 64),
}
_SETTINGS: Final = {
    "zero2": {"zero_stage": 2},
    "zero2 compiled": {"zero_stage": 2, "compile": True},
    "zero3": {"zero_stage": 3},
    "zero3 compiled": {"zero_stage": 3, "compile": True},
}
_KINDS: Final = (
    ("matrix products", ("gemm", "nvjet", "cutlass", "cublas", "xmma", "sm90_")),
    ("attention", ("flash", "fmha", "attention", "sdpa")),
    ("optimizer", ("adam", "multi_tensor", "l2norm")),
    ("copies", ("memcpy", "memset", "copy_", "catarray", "cat_")),
)
"""Words in a kernel's name by what it does; attention's own products are told first."""


def make_inputs(folder: Path, shape: str) -> None:
    """A model with random weights, its tokenizer, and rows that fill it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from ray_sft.data import Jsonl, Splits, prepare
    from ray_sft.models import train_tokenizer
    from ray_sft.ray_session import start_ray

    layers, dim, inner, heads, key_value_heads, length = _SHAPES[shape]
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(4000)]
    processor = train_tokenizer([" ".join(words)] * 4, vocab_size=8192)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=dim,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=length,
        bos_token_id=processor.bos_token_id,
        eos_token_id=processor.eos_token_id,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    path = folder / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(4 * _ROWS_PER_STEP):
            file.write(json.dumps({"text": " ".join(rng.choices(words, k=length))}) + "\n")
    with start_ray():
        prepare(
            _task(length),
            Splits(train=Jsonl(path=str(path)), eval=Jsonl(path=str(path))),
            processor_dir=folder / "model",
            out_dir=folder / "shards",
            num_tasks=2,
        )


def _task(length: int) -> Any:
    from ray_sft.tasks import CausalLanguageModel

    return CausalLanguageModel(format="text", max_length=length)


def measure(
    folder: Path, length: int, settings: Mapping[str, Any], num_steps: int
) -> dict[str, Any]:
    """Tokens a second of the loop, the most memory, and the shares of one profiled step."""
    import torch
    import torch.distributed as dist

    from ray_sft.training import Train
    from ray_sft.training.job import Job
    from ray_sft.training.loop import Loop

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["DS_ACCELERATOR"] = device.type
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    train = Train(
        workers=1,
        packing=True,
        precision="bf16" if device.type == "cuda" else "fp32",
        epochs=100,
        tokens_per_step=_ROWS_PER_STEP * length,
        **settings,
    )
    model, shards = str(folder / "model"), str(folder / "shards")
    records: list[dict[str, Any]] = []
    job = Job({"text": _task(length)}, train, model, model, {"text": shards}, 4, None)
    loop = Loop(
        job,
        device=device,
        report=records.append,
        save=lambda *_: None,
        note=lambda *_: None,
    )
    steps = loop.epochs.steps()

    def run(number: int) -> float:
        """Seconds of so many steps."""
        _synchronize(device)
        began = time.perf_counter()
        for _ in range(number):
            step = next(steps)
            loop._step(step.number, step.samples, epoch=step.epoch)
        _synchronize(device)
        return time.perf_counter() - began

    began = time.perf_counter()
    run(_WARM_UP)
    warm_up_s = time.perf_counter() - began
    seconds = run(num_steps)
    num_tokens = sum(record["num_tokens"] for record in records[-num_steps:])
    with torch.profiler.profile() as profile:
        profiled_s = run(1)
    flops = flops_per_token(loop.engine.bare_module.config, length)
    return {
        "tokens_per_s": num_tokens / seconds,
        "tflops_per_s": num_tokens / seconds * flops / 1e12,
        "step_s": seconds / num_steps,
        "warm_up_s": warm_up_s,
        "loss": records[-1]["loss"],
        "data_wait": sum(r["data_wait_s"] for r in records[-num_steps:]) / seconds,
        "gigabytes": torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else 0.0,
        "profile": _shares(profile, profiled_s),
    }


def flops_per_token(config: Any, length: int) -> float:
    """Forward and backward, of one token in a whole row (Chowdhery et al. 2022, appendix B).

    Unlike there, the half of the attention's square that a causal model leaves out is not
    counted. The table of the inputs' embeddings is looked up, not multiplied.
    """
    dim, head_dim = config.hidden_size, config.hidden_size // config.num_attention_heads
    key_value = head_dim * config.num_key_value_heads
    layer = dim * (2 * dim + 2 * key_value) + 3 * dim * config.intermediate_size
    matrices = config.num_hidden_layers * layer + config.vocab_size * dim
    attention = 6 * config.num_hidden_layers * dim * length
    return float(6 * matrices + attention)


def _synchronize(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def _shares(profile: Any, seconds: float) -> dict[str, float]:
    """Of a step's time: kernels by what they do, and when no kernel ran."""
    spent: dict[str, float] = {}
    names: dict[str, float] = {}
    for event in profile.events():
        if event.device_type.name != "CUDA":
            continue
        kind = _kind_of(event.name.lower())
        spent[kind] = spent.get(kind, 0.0) + event.device_time / 1e6
        names[event.name] = names.get(event.name, 0.0) + event.device_time / 1e6
    for name in sorted(names, key=lambda name: -names[name])[:12]:
        say(f"    {names[name] / seconds:6.1%}  {name[:110]}")
    shares = {kind: round(time_s / seconds, 3) for kind, time_s in spent.items()}
    return shares | {"no kernel": round(max(0.0, 1 - sum(spent.values()) / seconds), 3)}


def _kind_of(kernel: str) -> str:
    order = (_KINDS[1], _KINDS[0], *_KINDS[2:])
    for kind, words in order:
        if any(word in kernel for word in words):
            return kind
    return "element by element"


def product_rate() -> float:
    """Operations a second of one large bf16 product of random matrices."""
    import torch

    one, other = (torch.randn(8192, 8192, device="cuda").bfloat16() for _ in range(2))
    for _ in range(3):
        one @ other
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(20):
        one @ other
    torch.cuda.synchronize()
    return float(20 * 2 * 8192**3 / (time.perf_counter() - began))


def main() -> None:
    """Runs every setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12, help="measured steps of each setting")
    parser.add_argument("--rows", type=int, nargs="+", default=[4], help="rows of a micro-batch")
    parser.add_argument("--only", nargs="+", choices=list(_SETTINGS), help="these settings")
    parser.add_argument("--shape", choices=list(_SHAPES), default="1.1B")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        accumulation = max(1, _ROWS_PER_STEP // options.rows[0])
        settings = _SETTINGS[options.only[0]] | {"gradient_accumulation": accumulation}
        print(
            json.dumps(
                measure(options.folder, _SHAPES[options.shape][-1], settings, options.steps)
            ),
            flush=True,
        )
        return
    import torch

    if not torch.cuda.is_available() and options.shape != "tiny":
        raise SystemExit("this benchmark needs a CUDA device, and torch sees none.")
    peak = reached = 1e12
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        peak = next((one for key, one in _PEAKS.items() if key in name), 0.0)
        reached = product_rate()
        say(f"{name}: peak {peak / 1e12:.0f} TFLOP/s, a large product {reached / 1e12:.0f}")
        peak = peak or reached
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_inputs(Path(folder), options.shape)
        for setting, rows in product(options.only or _SETTINGS, options.rows):
            name = f"{setting}, {rows} rows"
            command = [sys.executable, "-m", "benchmarks.gpu_training", "--folder", folder]
            command += ["--shape", options.shape, "--only", setting]
            command += ["--steps", str(options.steps), "--rows", str(rows)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                say(f"{name}: failed with exit code {done.returncode}")
                continue
            *lines, last = done.stdout.splitlines()
            found[name] = json.loads(last)
            rate = found[name]["tflops_per_s"] * 1e12
            say("\n".join([name, *(line for line in lines if line.startswith("    "))]))
            say(f"  {rate / peak:.1%} of the peak, {rate / reached:.1%} of a large product: {last}")
    if not found:
        raise SystemExit("no setting could be measured.")
    best = max(found, key=lambda name: found[name]["tflops_per_s"])
    report(
        "gpu_training",
        ours=found[best]["tflops_per_s"],
        peer=peak / 1e12,
        ratio=found[best]["tflops_per_s"] * 1e12 / peak,
        unit="TFLOP/s",
        setting=best,
        tokens_per_s={name: round(one["tokens_per_s"]) for name, one in found.items()},
        mfu={name: round(one["tflops_per_s"] * 1e12 / peak, 3) for name, one in found.items()},
    )


if __name__ == "__main__":
    main()
