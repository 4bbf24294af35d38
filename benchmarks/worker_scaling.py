"""Useful tokens a second of two workers of one core each against one worker with both.

The same steps of the same conversations; the loss rule makes their gradients the same. On one
machine the cores are all there is: what two workers can gain is only what threads within a model
waste, and what they pay is the exchange of gradients.
"""

import argparse
import itertools
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.conversations import (
    Conversations,
    load_conversations,
    prepare_conversations,
    steps_of,
    train_steps,
)
from benchmarks.harness import alternate, report, say
from ray_sft.ray_session import start_ray
from ray_sft.training import Train

_WARM_UP = 5


def rate(data: Conversations, train: Train, shards: Path, folder: Path, name: str) -> float:
    """Tokens a second after the warm-up."""
    records = train_steps(data, train, shards, folder, name=name)
    steps = steps_of(records)
    start_up_s = float(steps[0]["elapsed_s"])
    say(f"{train.workers} workers: first step done {start_up_s:.1f} s after the models were asked")
    seconds = steps[-1]["elapsed_s"] - steps[_WARM_UP - 1]["elapsed_s"]
    return float(sum(record["num_tokens"] for record in steps[_WARM_UP:]) / seconds)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of few steps")
    quick = parser.parse_args().quick
    train = Train(
        device="cpu",
        packing=True,
        epochs=20,
        steps=15 if quick else 40,
        tokens_per_step=4096,
        evaluate_every=10**6,
        checkpoint_every=10**6,
    )
    with tempfile.TemporaryDirectory() as name, start_ray():
        folder = Path(name)
        data = load_conversations(folder, num=300, max_length=768)
        shards = prepare_conversations(data, folder)
        numbers = itertools.count()

        def run(workers: int) -> float:
            settings = train.model_copy(update={"workers": workers})
            return rate(data, settings, shards, folder / "runs", f"run-{next(numbers)}")

        figures = alternate(
            partial(run, 2), partial(run, 1), rounds=1 if quick else 3, what="tokens/s"
        )
    report(
        "worker_scaling",
        ours=figures.median_ours,
        peer=figures.median_peer,
        ratio=figures.median_ours / figures.median_peer,
        unit="tokens/s",
    )


if __name__ == "__main__":
    main()
