"""Useful tokens a second of training an encoder: layers without padding against padded batches.

Both train the embedded MiniLM on the same batches of short texts, those that two workers have for
the steps of a run; padding is not counted as useful. The gradients are the same.
"""

import argparse
import csv
import time

import numpy as np
import torch

from benchmarks.harness import alternate, report, say
from ray_sft.data import StepPlan, num_positions
from ray_sft.models import MINILM, leave_out_padding, load_model, load_processor, locate
from ray_sft.samples import SAMPLES_DIR
from ray_sft.tasks import Example, SequenceClassification, TensorBatch

_TOKENS_PER_STEP, _MICRO_BATCHES = 4096, 2


def read_texts() -> tuple[SequenceClassification, list[Example]]:
    """The task of telling intents, and the sample questions as it encodes them."""
    with (SAMPLES_DIR / "support_train.csv").open(encoding="utf-8") as file:
        rows = [row | {"label": row["intent"]} for row in csv.DictReader(file)]
    task = SequenceClassification().resolve({"label": sorted({row["label"] for row in rows})})
    encoded = task.encode(rows, load_processor(locate(MINILM).processor))
    return task, [example for example in encoded if isinstance(example, Example)]


def step_batches(
    task: SequenceClassification, examples: list[Example], *, num_steps: int
) -> tuple[list[list[TensorBatch]], float]:
    """The micro-batches of some steps, and the share of their positions that is padding."""
    processor = load_processor(locate(MINILM).processor)
    lengths = np.asarray([example.length for example in examples])
    plan = StepPlan(lengths, _TOKENS_PER_STEP, seed=0)
    found, positions, tokens = [], 0, 0
    for samples in plan.epoch_steps(0)[:num_steps]:
        rows = plan.micro_batches(samples, num=_MICRO_BATCHES, row_length=None)
        positions += num_positions(rows, lengths)
        tokens += int(lengths[samples].sum())
        groups = [[examples[sample] for (sample,) in batch] for batch in rows]
        batches = [task.collate(group, processor) for group in groups]
        found.append([{k: torch.from_numpy(v) for k, v in batch.items()} for batch in batches])
    return found, 1 - tokens / positions


class Trainer:
    """One model that is trained on the same steps again and again."""

    def __init__(self, task: SequenceClassification, *, unpadded: bool) -> None:
        """A fresh head on the embedded encoder."""
        torch.manual_seed(0)
        self.task = task
        source = locate(MINILM)
        processor = load_processor(source.processor)
        self.model = load_model(source.model, task, processor=processor).train()
        if unpadded:
            assert leave_out_padding(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)

    def tokens_per_s(self, steps: list[list[TensorBatch]]) -> float:
        """Of one pass over ``steps``."""
        began = time.perf_counter()
        for batches in steps:
            for batch in batches:
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    loss = self.task.loss(self.model, batch)
                (loss.loss_sum / loss.num_targets).backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad()
        tokens = sum(int(batch["attention_mask"].sum()) for step in steps for batch in step)
        return tokens / (time.perf_counter() - began)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="end within 90 seconds")
    quick = parser.parse_args().quick
    task, examples = read_texts()
    steps, padding = step_batches(task, examples, num_steps=6 if quick else 20)
    say(f"{len(steps)} steps of {_TOKENS_PER_STEP} tokens; padding: {padding:.3f}")
    ours, peer = Trainer(task, unpadded=True), Trainer(task, unpadded=False)
    for trainer in (ours, peer):  # meets every shape once
        trainer.tokens_per_s(steps)
    figures = alternate(
        lambda: ours.tokens_per_s(steps),
        lambda: peer.tokens_per_s(steps),
        rounds=3 if quick else 5,
        what="useful tokens/s",
    )
    report(
        "padding_free",
        ours=figures.median_ours,
        peer=figures.median_peer,
        ratio=figures.median_ours / figures.median_peer,
        unit="useful tokens/s",
        padding=round(padding, 4),
    )


if __name__ == "__main__":
    main()
