"""Evaluation inside a training run: the set is dealt over ranks, each row counted once."""

from collections.abc import Sequence

import torch
import torch.distributed as dist

from ray_sft.inference import HeadRunner, TorchRunner, plan_batches
from ray_sft.tasks import Example, Processor, Runner, Task

__all__ = ["evaluate_sharded"]


def evaluate_sharded(
    task: Task,
    module: torch.nn.Module,
    processor: Processor,
    examples: Sequence[Example],
    *,
    head: str = "",
    max_batch_tokens: int,
    precision: str,
    tensor_parallel: int = 1,
) -> dict[str, float]:
    """The task's metrics over ``examples``, the same on every rank.

    ``head`` names the task's output where ``module`` has several.

    Batches go to ranks in turn. A rank without a batch left runs the first one again and does not
    count it: under ZeRO-3 every rank must run the model equally often. So many ranks as are
    ``tensor_parallel`` run each batch together, and the first of them counts it.
    """
    replica, place = divmod(dist.get_rank(), tensor_parallel)
    replicas = dist.get_world_size() // tensor_parallel
    device = next(module.parameters()).device
    runner: Runner = TorchRunner(module, device=str(device))
    if head:
        runner = HeadRunner(runner, head)
    batches = plan_batches([e.length for e in examples], max_batch_tokens=max_batch_tokens)
    metrics = task.metrics()
    for first in range(0, len(batches), replicas):
        index = first + replica
        counts = index < len(batches)
        chosen = [examples[position] for position in batches[index if counts else 0]]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            outputs = task.predict(runner, task.collate(chosen, processor))
        if counts and place == 0:
            metrics.update(task.decode(outputs, chosen, processor), chosen)
    gathered = [task.metrics() for _ in range(dist.get_world_size())]
    dist.all_gather_object(gathered, metrics)
    merged = task.metrics()
    for part in gathered:
        merged.merge(part)
    return merged.compute()
