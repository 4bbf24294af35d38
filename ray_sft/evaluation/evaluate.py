"""Figures of a model on encoded examples, through the calls that also serve it."""

from collections.abc import Sequence

from ray_sft.inference import plan_batches
from ray_sft.tasks import Example, Processor, Runner, Task

__all__ = ["evaluate"]


def evaluate(
    task: Task,
    runner: Runner,
    processor: Processor,
    examples: Sequence[Example],
    *,
    max_batch_tokens: int = 4096,
) -> dict[str, float]:
    """The task's metrics over ``examples``, each of which counts exactly once.

    Examples run sorted by length, in batches of at most ``max_batch_tokens`` padded tokens; the
    figures do not depend on it, but for float rounding (and for int8 activations, whose scale is
    shared by a batch).
    """
    metrics = task.metrics()
    lengths = [example.length for example in examples]
    for group in plan_batches(lengths, max_batch_tokens=max_batch_tokens):
        chosen = [examples[index] for index in group]
        outputs = task.predict(runner, task.collate(chosen, processor))
        metrics.update(task.decode(outputs, chosen, processor), chosen)
    return metrics.compute()
