"""Useful tokens a second of our training against TRL's SFTTrainer, and the loss both end with.

The same tiny Llama, the same conversations of which only the replies are learned, the same tokens a
step, learning rates, precision and threads; one worker of ours under Ray and DeepSpeed, as a recipe
runs it. TRL runs without packing and with its packing (best-fit decreasing, padding-free). It has a
virtual environment of its own, made below ``.peers/`` at the first run. Useful are tokens that are
not padding. The held-out loss is ours, on conversations that neither has seen.
"""

import argparse
import itertools
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.conversations import (
    Conversations,
    load_conversations,
    prepare_conversations,
    steps_of,
    train_steps,
)
from benchmarks.harness import peer_python, report, say
from ray_sft.models import load_model
from ray_sft.ray_session import start_ray
from ray_sft.tasks import Example
from ray_sft.training import Train
from ray_sft.training.job import WEIGHTS
from ray_sft.training.launch import choose_resources

_MAX_LENGTH = 768
_TOKENS_PER_STEP = 2048
_HELD_OUT = 40
_WARM_UP = 3
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""The model's own template, with the replies marked as TRL wants them."""
_PEER = """
import json, sys, time
given = json.loads(sys.argv[1])
import torch
torch.set_num_threads(given["threads"])
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

tokenizer = AutoTokenizer.from_pretrained(given["model"])
tokenizer.chat_template = given["template"]
rows = [json.loads(line) for line in open(given["rows"], encoding="utf-8")]
data = Dataset.from_list([{"messages": row["messages"]} for row in rows])
config = SFTConfig(
    output_dir=given["out"], max_length=given["max_length"], packing=given["packing"],
    assistant_only_loss=True, per_device_train_batch_size=given["batch"],
    max_steps=given["steps"], learning_rate=given["learning_rate"], lr_scheduler_type="linear",
    warmup_steps=given["warmup"], weight_decay=0.01, max_grad_norm=1.0, bf16=given["bf16"],
    use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", seed=0,
    gradient_checkpointing=False, dataloader_num_workers=0, disable_tqdm=True,
)
model = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
tokens, ends = [], []

class Clock(TrainerCallback):
    def on_step_end(self, *args, **kwargs):
        ends.append(time.perf_counter())

trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer,
                     callbacks=[Clock()])
collate = trainer.data_collator

def counted(examples):
    batch = collate(examples)
    mask = batch.get("attention_mask")
    tokens.append(int(mask.sum()) if mask is not None else batch["input_ids"].numel())
    return batch

trainer.data_collator = counted
trainer.train()
trainer.save_model(given["out"])
warm = given["warm_up"]
rate = sum(tokens[warm:given["steps"]]) / (ends[-1] - ends[warm - 1])
print(json.dumps({"rate": rate, "tokens": sum(tokens[:given["steps"]])}))
"""


def peer(
    python: Path, data: Conversations, folder: Path, *, packing: bool, steps: int, **settings: Any
) -> tuple[float, float]:
    """TRL's useful tokens a second, and the held-out loss of its model."""
    mean = sum(example.length for example in data.examples) / len(data.examples)
    given = settings | {
        "model": str(data.model_dir),
        "rows": str(folder / "train.jsonl"),
        "template": _CHAT_TEMPLATE,
        "packing": packing,
        "batch": max(1, round(_TOKENS_PER_STEP / (_MAX_LENGTH if packing else mean))),
        "steps": steps,
        "max_length": _MAX_LENGTH,
        "warm_up": _WARM_UP,
        "out": str(folder / f"trl-{packing}"),
    }
    done = subprocess.run(
        [python, "-c", _PEER, json.dumps(given)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"TRL failed:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    loss = held_out_loss(data, Path(given["out"]), folder)
    say(f"  TRL, packing {packing}: {found['rate']:.0f} tokens/s, {found['tokens']} tokens, {loss}")
    return float(found["rate"]), loss


def ours(data: Conversations, train: Train, folder: Path, number: int) -> tuple[float, float]:
    """Our useful tokens a second, and the held-out loss of our model."""
    out_dir = folder / f"ours-{number}"
    steps = steps_of(train_steps(data, train, folder / "shards", out_dir, name="run"))
    seconds = steps[-1]["elapsed_s"] - steps[_WARM_UP - 1]["elapsed_s"]
    rate = sum(record["num_tokens"] for record in steps[_WARM_UP:]) / seconds
    weights = max(out_dir.glob(f"run/*/{WEIGHTS}"), key=lambda path: path.stat().st_mtime)
    loss = held_out_loss(data, weights, folder)
    total = sum(record["num_tokens"] for record in steps)
    say(f"  ours: {rate:.0f} tokens/s, {total} tokens, {loss}")
    return float(rate), loss


def held_out_loss(data: Conversations, model_dir: Path, folder: Path) -> float:
    """Nats a reply token of conversations that were not trained."""
    lines = (folder / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    encoded = data.task.encode([json.loads(line) for line in lines], data.processor)
    examples = [example for example in encoded if isinstance(example, Example)]
    model = load_model(str(model_dir), data.task, processor=data.processor).eval()
    loss_sum, num_targets = 0.0, 0
    with torch.inference_mode():
        for example in examples:
            batch = data.task.collate([example], data.processor)
            found = data.task.loss(model, {k: torch.from_numpy(v) for k, v in batch.items()})
            loss_sum += found.loss_sum.item()
            num_targets += found.num_targets
    return loss_sum / num_targets


def split(data: Conversations, folder: Path) -> Conversations:
    """The conversations but the last ones, which are held out."""
    lines = data.path.read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "held_out.jsonl").write_text("".join(lines[-_HELD_OUT:]), encoding="utf-8")
    path = folder / "train.jsonl"
    path.write_text("".join(lines[:-_HELD_OUT]), encoding="utf-8")
    examples = data.examples[: len(lines) - _HELD_OUT]
    return Conversations(data.task, data.processor, examples, path, data.model_dir)


def medians(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of rates and of losses."""
    return median(rate for rate, _ in found), median(loss for _, loss in found)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few steps")
    quick = parser.parse_args().quick
    python = peer_python("trl", ["torch==2.13.0", "transformers==5.23.0", "trl==1.16.0"])
    bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    num_steps = 10 if quick else 40
    train = Train(
        workers=1,
        device="cpu",
        precision="bf16" if bf16 else "fp32",
        packing=True,
        epochs=20,
        steps=num_steps,
        tokens_per_step=_TOKENS_PER_STEP,
        evaluate_every=10**6,
        checkpoint_every=10**6,
    )
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "plain": [], "packed": []}
    with tempfile.TemporaryDirectory() as name, start_ray():
        folder = Path(name)
        whole = load_conversations(folder, num=300, max_length=_MAX_LENGTH)
        data = split(whole, folder)
        prepare_conversations(data, folder)
        threads = choose_resources(train, [{"CPU": torch.get_num_threads()}]).threads
        settings = {
            "threads": threads,
            "bf16": bf16,
            "learning_rate": train.learning_rate,
            "warmup": round(train.warmup * num_steps),
        }
        for number in itertools.count(1):
            say(f"round {number}")
            found["ours"].append(ours(data, train, folder, number))
            for kind, packing in (("plain", False), ("packed", True)):
                one = peer(python, data, folder, packing=packing, steps=num_steps, **settings)
                found[kind].append(one)
            if number == (1 if quick else 3):
                break
    (rate, loss), plain, packed = (medians(found[kind]) for kind in ("ours", "plain", "packed"))
    best = max(plain[0], packed[0])
    report(
        "vs_trl",
        ours=rate,
        peer=best,
        ratio=rate / best,
        unit="tokens/s",
        ratio_without_packing=round(rate / plain[0], 2),
        ratio_with_packing=round(rate / packed[0], 2),
        loss=round(loss, 3),
        loss_of_peer={"plain": round(plain[1], 3), "packed": round(packed[1], 3)},
        precision=train.precision,
    )


if __name__ == "__main__":
    main()
