"""How much of a run's time its workers stand still for checkpoints.

The embedded encoder on the sample questions, two workers, a checkpoint after each epoch: weights,
moments and the state to go on from are written by each worker; the copy to where the run lies goes
on while training does. The last checkpoint, with the finished weights, is counted apart.
"""

import argparse
import csv
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import report, say
from ray_sft.data import Jsonl, Splits, prepare
from ray_sft.models import MINILM, locate
from ray_sft.ray_session import start_ray
from ray_sft.samples import SAMPLES_DIR
from ray_sft.tasks import SequenceClassification
from ray_sft.training import Train, train_model

_BOUND = 0.02


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two epochs")
    quick = parser.parse_args().quick
    train = Train(device="cpu", epochs=2 if quick else 6, tokens_per_step=1024)
    records: list[Mapping[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, start_ray():
        folder = Path(name)
        with (SAMPLES_DIR / "support_train.csv").open(encoding="utf-8") as file:
            rows = [{"text": row["text"], "label": row["intent"]} for row in csv.DictReader(file)]
        path = folder / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        task = SequenceClassification().resolve({"label": sorted({row["label"] for row in rows})})
        source = locate(MINILM)
        rows_read = Jsonl(path=str(path))
        prepare(
            task,
            Splits(train=rows_read, eval=rows_read.model_copy(update={"take": 50})),
            processor_dir=Path(source.processor),
            out_dir=folder / "shards",
            num_tasks=1,
        )
        train_model(
            {"intent": task},
            train,
            model=source.model,
            processor=source.processor,
            data_dirs={"intent": folder / "shards"},
            out_dir=folder / "runs",
            name="run",
            on_record=records.append,
        )
    stalls = [float(r["stall_s"]) for r in records if r["event"] == "checkpoint"]
    seconds = next(float(r["elapsed_s"]) for r in reversed(records) if r["event"] == "step")
    say(f"{seconds:.1f} s of training; stalls {', '.join(f'{s:.2f}' for s in stalls[:-1])} s")
    say(f"the last checkpoint, with the finished weights: {stalls[-1]:.2f} s")
    share = sum(stalls[:-1]) / seconds
    report(
        "checkpoint_stall",
        ours=share,
        peer=_BOUND,
        ratio=share / _BOUND,
        unit="share of run time",
        checkpoints=len(stalls) - 1,
        last_s=round(stalls[-1], 2),
    )


if __name__ == "__main__":
    main()
