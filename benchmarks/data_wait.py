"""How much of a training step two workers wait for their rows.

A worker reads the samples of a step from the shards by their ids, packs and stacks them, and only
then computes: what that takes is what it waits; with ``--window`` also until a window that another
process encodes is there. The share is that of the first worker, over the
steps after the warm-up, against the bound that the project sets itself.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.conversations import (
    load_conversations,
    prepare_conversations,
    steps_of,
    stream_conversations,
    train_steps,
)
from benchmarks.harness import report, say
from ray_sft.ray_session import start_ray
from ray_sft.training import Train

BOUND = 0.02
WARM_UP = 5


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the steps")
    parser.add_argument("--window", type=int, default=0, help="stream so many rows at a time")
    options = parser.parse_args()
    quick, window = options.quick, options.window
    train = Train(
        workers=2,
        device="cpu",
        packing=True,
        epochs=8,
        steps=20 if quick else 100,
        window=window,
        tokens_per_step=4096,
        evaluate_every=10**6,
        checkpoint_every=10**6,
    )
    with tempfile.TemporaryDirectory() as name, start_ray():
        folder = Path(name)
        data = load_conversations(folder, num=300, max_length=768)
        stream = stream_conversations(data, folder, rows=window) if window else None
        shards = prepare_conversations(data, folder, stream=stream)
        records = train_steps(data, train, shards, folder / "runs", name="run", stream=stream)
        steps = steps_of(records)
    seconds = steps[-1]["elapsed_s"] - steps[WARM_UP - 1]["elapsed_s"]
    waited = sum(record["data_wait_s"] for record in steps[WARM_UP:])
    say(f"{len(steps) - WARM_UP} steps in {seconds:.1f} s, {waited:.2f} s of it waiting for rows")
    report(
        "data_wait",
        ours=waited / seconds,
        peer=BOUND,
        ratio=waited / seconds / BOUND,
        unit="share of step time",
        workers=train.workers,
        window=window,
        steps=len(steps) - WARM_UP,
    )


if __name__ == "__main__":
    main()
