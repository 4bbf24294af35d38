"""What DeepSpeed under Ray Train costs over a bare PyTorch loop, in tokens a second.

Both train the same model on the same packed batches in the same order with bf16 autocast, fused
AdamW, gradient clipping and the same number of threads; one worker. The first steps are warm-up.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.conversations import (
    Conversations,
    load_conversations,
    prepare_conversations,
    steps_of,
    train_steps,
)
from benchmarks.harness import alternate, report, say
from ray_sft.data import SampleStore, StepPlan
from ray_sft.models import use_segmented_attention
from ray_sft.ray_session import start_ray
from ray_sft.training import Train
from ray_sft.training.launch import choose_resources
from ray_sft.training.step_batches import step_micro_batches

_MAX_LENGTH = 768
_WARM_UP = 5


def ours(data: Conversations, train: Train, folder: Path, run: int) -> float:
    """Tokens a second of a run on Ray, from the end of the warm-up to the last step."""
    records = train_steps(data, train, folder / "shards", folder / "runs", name=f"run-{run}")
    steps = steps_of(records)
    seconds = steps[-1]["elapsed_s"] - steps[_WARM_UP - 1]["elapsed_s"]
    return float(sum(record["num_tokens"] for record in steps[_WARM_UP:]) / seconds)


def bare(data: Conversations, train: Train, store: SampleStore) -> float:
    """Tokens a second of a plain loop over the same steps."""
    model = data.model()
    use_segmented_attention(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=train.learning_rate, fused=True)
    plan = StepPlan(store.lengths, train.tokens_per_step, train.seed)
    every = itertools.chain.from_iterable(plan.epoch_steps(e) for e in range(train.epochs))
    steps = list(itertools.islice(every, train.steps))
    began, num_tokens = 0.0, 0
    for number, samples in enumerate(steps):
        if number == _WARM_UP:
            began, num_tokens = time.perf_counter(), 0
        (rows,) = step_micro_batches(plan, samples, data.task, train, world_size=1)
        joined = [example for row in rows for example in store.examples(row)]  # as ours does
        batch = data.task.pack([joined], data.processor)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = data.task.loss(model, {k: torch.from_numpy(v) for k, v in batch.items()})
        (loss.loss_sum / loss.num_targets).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        num_tokens += int(store.lengths[samples].sum())
    return num_tokens / (time.perf_counter() - began)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="end within 90 seconds")
    quick = parser.parse_args().quick
    train = Train(
        workers=1,
        device="cpu",
        precision="bf16",
        packing=True,
        epochs=8,
        steps=15 if quick else 60,
        tokens_per_step=2048,
        evaluate_every=10**6,
        checkpoint_every=10**6,
    )
    with tempfile.TemporaryDirectory() as name, start_ray():
        folder = Path(name)
        data = load_conversations(folder, num=120, max_length=_MAX_LENGTH)
        prepare_conversations(data, folder)
        store = SampleStore(folder / "shards" / "train")
        threads = choose_resources(train, [{"CPU": torch.get_num_threads()}]).threads
        torch.set_num_threads(threads)
        say(f"{len(store)} conversations, {threads} threads, ZeRO {train.zero_stage}")
        number = itertools.count()
        figures = alternate(
            lambda: ours(data, train, folder, next(number)),
            lambda: bare(data, train, store),
            rounds=1 if quick else 3,
            what="tokens/s",
        )
    report(
        "train_overhead",
        ours=figures.median_ours,
        peer=figures.median_peer,
        ratio=figures.median_ours / figures.median_peer,
        unit="tokens/s",
        zero_stage=train.zero_stage,
    )


if __name__ == "__main__":
    main()
