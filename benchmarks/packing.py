"""Useful tokens a second of training: packed rows against padded batches.

Ours packs conversations into rows of the model's length by best fit. The peer puts them, in
random order, into batches padded to their longest. Both train the same conversations on the same
model in the same number of steps; padding is not counted as useful.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.conversations import Conversations, load_conversations
from benchmarks.harness import alternate, report, say
from ray_sft.data import StepPlan
from ray_sft.models import use_segmented_attention
from ray_sft.tasks import Batch

_MAX_LENGTH = 768
_CONVERSATIONS_PER_BATCH = 8


def packed_batches(data: Conversations) -> list[Batch]:
    """All conversations, several to a row."""
    lengths = np.asarray([example.length for example in data.examples])
    plan = StepPlan(lengths, int(lengths.sum()), seed=0)
    (rows,) = plan.micro_batches(np.arange(len(lengths)), num=1, row_length=_MAX_LENGTH)
    groups = [[data.examples[sample] for sample in row] for row in rows]
    num_batches = -(-len(lengths) // _CONVERSATIONS_PER_BATCH)  # as many steps as the peer
    chunks = np.array_split(np.arange(len(groups)), num_batches)
    return [data.task.pack([groups[row] for row in chunk], data.processor) for chunk in chunks]


def padded_batches(data: Conversations) -> list[Batch]:
    """All conversations in random order, one to a row."""
    order = np.random.default_rng(0).permutation(len(data.examples))
    examples = [data.examples[sample] for sample in order]
    size = _CONVERSATIONS_PER_BATCH
    chunks = [examples[first : first + size] for first in range(0, len(examples), size)]
    return [data.task.collate(chunk, data.processor) for chunk in chunks]


def useful_tokens_per_s(data: Conversations, batches: list[Batch], *, packed: bool) -> float:
    """Trains one pass over the conversations, after one that is not timed.

    The first pass meets every shape for the first time, which costs either side up to a third.
    """
    model = data.model()
    if packed:
        use_segmented_attention(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tensors = [{k: torch.from_numpy(v) for k, v in batch.items()} for batch in batches]
    _train(data, model, optimizer, tensors)
    began = time.perf_counter()
    _train(data, model, optimizer, tensors)
    seconds = time.perf_counter() - began
    return sum(example.length for example in data.examples) / seconds


def _train(
    data: Conversations,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: list[dict[str, torch.Tensor]],
) -> None:
    for batch in batches:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = data.task.loss(model, batch)
        (loss.loss_sum / loss.num_targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()


def waste(batches: list[Batch], data: Conversations) -> float:
    """The share of positions that hold no token."""
    useful = sum(example.length for example in data.examples)
    return 1 - useful / sum(batch["input_ids"].size for batch in batches)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="end within 90 seconds")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        data = load_conversations(Path(name), num=60 if quick else 120, max_length=_MAX_LENGTH)
        packed, padded = packed_batches(data), padded_batches(data)
        wasted = {"packed": waste(packed, data), "padded": waste(padded, data)}
        say(f"{len(data.examples)} conversations; padding: {wasted}")
        figures = alternate(
            lambda: useful_tokens_per_s(data, packed, packed=True),
            lambda: useful_tokens_per_s(data, padded, packed=False),
            rounds=3 if quick else 5,
            what="useful tokens/s",
        )
    report(
        "packing",
        ours=figures.median_ours,
        peer=figures.median_peer,
        ratio=figures.median_ours / figures.median_peer,
        unit="useful tokens/s",
        waste={name: round(value, 4) for name, value in wasted.items()},
    )


if __name__ == "__main__":
    main()
