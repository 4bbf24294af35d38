"""How much of a training step two workers wait for their rows.

A worker reads the samples of a step from the shards by their ids, packs and stacks them, and only
then computes: what that takes is what it waits. The share is that of the first worker, over the
steps after the warm-up, against the bound that the project sets itself.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.conversations import load_conversations
from benchmarks.harness import report, say
from ray_sft.data import Jsonl, Splits, prepare
from ray_sft.ray_session import start_ray
from ray_sft.training import Train, train_model

BOUND = 0.02
WARM_UP = 5


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fifth of the steps")
    quick = parser.parse_args().quick
    train = Train(
        workers=2,
        device="cpu",
        packing=True,
        epochs=8,
        steps=20 if quick else 100,
        tokens_per_step=4096,
        evaluate_every=10**6,
        checkpoint_every=10**6,
    )
    steps: list[Mapping[str, Any]] = []

    def on_record(record: Mapping[str, Any]) -> None:
        if record["event"] == "step":
            steps.append(record)

    with tempfile.TemporaryDirectory() as name, start_ray():
        folder = Path(name)
        data = load_conversations(folder, num=300, max_length=768)
        few = folder / "few.jsonl"
        few.write_text(data.path.read_text(encoding="utf-8").splitlines()[0] + "\n")
        prepare(
            data.task,
            Splits(train=Jsonl(path=str(data.path)), eval=Jsonl(path=str(few))),
            processor_dir=data.model_dir,
            out_dir=folder / "shards",
            num_tasks=1,
        )
        train_model(
            {"reply": data.task},
            train,
            model=str(data.model_dir),
            processor=str(data.model_dir),
            data_dirs={"reply": folder / "shards"},
            out_dir=folder / "runs",
            name="run",
            on_record=on_record,
        )
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
        steps=len(steps) - WARM_UP,
    )


if __name__ == "__main__":
    main()
