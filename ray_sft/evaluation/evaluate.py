"""Figures of a model on encoded examples, through the calls that also serve it."""

from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from ray_sft.inference import plan_batches
from ray_sft.tasks import Example, Processor, Runner, Task

__all__ = ["answers", "evaluate"]


def answers(
    task: Task,
    runner: Runner,
    processor: Processor,
    examples: Sequence[Example],
    *,
    max_batch_tokens: int = 4096,
) -> Iterator[tuple[list[BaseModel], list[Example]]]:
    """Batches of responses with the examples they belong to, each of which comes once."""
    lengths = [example.length for example in examples]
    for group in plan_batches(lengths, max_batch_tokens=max_batch_tokens):
        chosen = [examples[index] for index in group]
        outputs = task.predict(runner, task.collate(chosen, processor))
        yield task.decode(outputs, chosen, processor), chosen


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
    for responses, chosen in answers(
        task, runner, processor, examples, max_batch_tokens=max_batch_tokens
    ):
        metrics.update(responses, chosen)
    return metrics.compute()
