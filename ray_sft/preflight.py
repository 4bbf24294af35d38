"""What is looked at before a training: its examples as the model sees them, and its memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from ray_sft.data import SampleStore
from ray_sft.models import empty_model, load_processor
from ray_sft.ready_stage import ReadyStage
from ray_sft.tasks import IGNORED, AnyTask, Array, CausalLanguageModel, Example, Processor
from ray_sft.tasks.control_tokens import control_tokens
from ray_sft.training import Train
from ray_sft.training.deepspeed_config import deepspeed_config, resolve_precision
from ray_sft.training.memory import MemoryEstimate, estimate_memory, model_size

__all__ = ["Preflight", "Rendered", "preflight"]

_LOOKED_AT = 1000
_RENDERED = 2
_MOST_TOKENS = 200
_TRUNCATED = 0.05
"""A larger share of rows that are cut is worth a warning."""
_TOKEN_HEADS = ("masked_lm", "causal_lm", "seq2seq_lm")


@dataclass(frozen=True, slots=True)
class Rendered:
    """An example as the model sees it."""

    task: str
    pieces: tuple[tuple[str, bool], ...]
    """Its text in pieces, and whether each is supervised: the model learns to give it, or its
    labels."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found."""

    warnings: tuple[str, ...]
    examples: tuple[Rendered, ...]
    memory: dict[int, MemoryEstimate]
    """Of a worker, by ZeRO stage."""
    machine_bytes: int
    """The memory of this machine."""
    deepspeed: dict[str, Any]
    """What DeepSpeed would be given here."""


def preflight(ready: ReadyStage) -> Preflight:
    """Looks at the rows of a stage and at the size of its model; nothing is trained."""
    processor = load_processor(ready.processor)
    warnings: list[str] = []
    rendered: list[Rendered] = []
    longest = 1
    for name, task in ready.stage.tasks.items():
        store = SampleStore(Path(ready.data_dirs[name]) / "train")
        longest = max(longest, store.summary().longest)
        examples = store.examples(_spread(len(store), _LOOKED_AT))
        warnings += [f"{name}: {text}" for text in _doubts(task, store, examples, processor)]
        rendered += [_rendered(name, one, processor) for one in examples[:_RENDERED]]
    memory = _memory(ready, longest, processor)
    machine = psutil.virtual_memory().total
    needed = memory[ready.stage.train.zero_stage].total * ready.stage.train.workers
    if needed > machine:
        warnings.append(
            f"{ready.stage.train.workers} workers need about {needed / 1e9:.1f} GB together, and "
            f"this machine has {machine / 1e9:.1f} GB. Lower train.tokens_per_step, raise "
            "train.gradient_accumulation or train.zero_stage, or use a cluster."
        )
    return Preflight(
        tuple(warnings), tuple(rendered), memory, machine, _deepspeed(ready.stage.train)
    )


def _deepspeed(train: Train) -> dict[str, Any]:
    """Of a run on this machine, or on the GPUs that the recipe asks for."""
    has_gpu = torch.cuda.is_available()
    on_gpu = train.device == "cuda" or (train.device == "auto" and has_gpu)
    device = torch.device("cuda" if on_gpu else "cpu")
    known = has_gpu or not on_gpu
    precision = resolve_precision(train, device=device) if known else train.precision
    return deepspeed_config(train, precision=precision, world_size=train.workers, device=device)


def _spread(total: int, count: int) -> list[int]:
    kept = min(total, count)
    return [total * number // kept for number in range(kept)]


def _memory(ready: ReadyStage, longest: int, processor: Processor) -> dict[int, MemoryEstimate]:
    stage, model = ready.stage, empty_model(ready.model, ready.stage.tasks)
    num_packed = 0
    if stage.adapter is not None:
        num_packed = stage.adapter.num_packed(model)
        stage.adapter.inject(model, stage.tasks, processor)
    size = model_size(model, num_packed=num_packed)
    return {
        zero_stage: estimate_memory(
            size,
            stage.train,
            longest=longest,
            has_token_logits=any(task.head in _TOKEN_HEADS for task in stage.tasks.values()),
            zero_stage=zero_stage,
        )
        for zero_stage in range(4)
    }


def _doubts(
    task: AnyTask, store: SampleStore, examples: Sequence[Example], processor: Processor
) -> Iterator[str]:
    """What looks wrong about the rows of a task."""
    summary = store.summary()
    cut = summary.num_truncated / max(1, summary.num_accepted)
    if cut > _TRUNCATED:
        yield (
            f"{cut:.0%} of the rows are cut at the task's max_length "
            f"({getattr(task, 'max_length', '?')}). Raise it, or part long rows."
        )
    ids = [example.arrays["input_ids"] for example in examples if "input_ids" in example.arrays]
    start = processor.bos_token_id
    doubled = sum(len(one) > 1 and one[0] == one[1] == start for one in ids)
    if start is not None and doubled:
        yield f"{doubled} of {len(ids)} rows begin with two tokens for the beginning of a text."
    if isinstance(task, CausalLanguageModel):
        yield from _open_ends(examples, processor)


def _open_ends(examples: Sequence[Example], processor: Processor) -> Iterator[str]:
    """A model that never learns to end talks on."""
    ends = {processor.convert_tokens_to_ids(token) for token in control_tokens(processor)}
    last = [_last_target(example.arrays["labels"]) for example in examples]
    is_open = sum(one not in ends for one in last if one is not None)
    if is_open:
        yield (
            f"in {is_open} of {len(last)} rows the last thing to learn is no token that ends a "
            "turn: the model would not learn to stop. Look at the chat template, and at rows that "
            "are cut."
        )


def _last_target(labels: Array) -> int | None:
    targets = labels[labels != IGNORED]
    return int(targets[-1]) if len(targets) else None


def _rendered(name: str, example: Example, processor: Processor) -> Rendered:
    """The first tokens; those that are alike in being supervised are decoded together."""
    ids = example.arrays.get("input_ids", np.empty(0, dtype=np.int32))
    labels = example.arrays.get("labels")
    marks = np.zeros(len(ids), dtype=bool)
    if labels is not None and labels.shape == ids.shape:
        marks = np.asarray(labels != IGNORED)
    pairs = list(zip(ids.tolist(), marks.tolist(), strict=True))[:_MOST_TOKENS]
    pieces = [
        (processor.decode([token for token, _ in run]), bool(mark))
        for mark, run in groupby(pairs, key=lambda pair: pair[1])
    ]
    return Rendered(name, tuple(pieces))
