"""The training loop, as one Ray Train worker runs it.

for step in plan:                       the same plan on every rank
micro-batches of this rank          one that is empty runs with no targets
targets of the whole step           one all-reduce before any backward
backward for each, then one update
finite?                             all ranks see the same loss and stop together
evaluate, checkpoint                all ranks, at the same steps
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from ray_sft.core import TrainingError
from ray_sft.data import SampleStore, StepPlan
from ray_sft.models import load_model, load_processor, use_segmented_attention
from ray_sft.tasks import AnyTask, Array, Batch, Processor, Task, TensorBatch
from ray_sft.training.config import Train
from ray_sft.training.engine import Engine, resolve_precision
from ray_sft.training.evaluate import evaluate_sharded
from ray_sft.training.schedule import learning_rate

__all__ = ["Job", "Loop", "run_worker", "step_micro_batches", "total_steps"]

WEIGHTS = "weights"
"""Folder of the last checkpoint that holds the finished model."""


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a worker needs, as plain values."""

    task: AnyTask
    train: Train
    model: str
    processor: str
    data_dir: str
    threads: int
    log: Any
    """Handle of the actor that gathers records."""


def total_steps(plan: StepPlan, train: Train) -> int:
    """The optimizer steps of a run."""
    all_epochs = sum(len(plan.epoch_steps(epoch)) for epoch in range(train.epochs))
    return min(all_epochs, train.steps) if train.steps else all_epochs


def step_micro_batches(
    plan: StepPlan, samples: Any, task: Task, train: Train, *, world_size: int
) -> list[list[list[int]]]:
    """All micro-batches of a step; rank ``r`` runs those at ``r``, ``r + world_size``, ..."""
    row_length = getattr(task, "max_length") if train.packing else None  # noqa: B009
    num = world_size * train.gradient_accumulation
    return plan.micro_batches(samples, num=num, row_length=row_length)


class Loop:
    """One rank of a run. Knows torch.distributed, but neither Ray nor where checkpoints go."""

    def __init__(
        self,
        job: Job,
        *,
        device: torch.device,
        report: Callable[[dict[str, Any]], None],
        save: Callable[[Path, int], None],
    ) -> None:
        """Loads data and model.

        Args:
            job: what to train, the same on every rank.
            device: of this rank.
            report: takes a record; called on rank 0.
            save: publishes a folder with this rank's part of the checkpoint of a step.
        """
        torch.set_num_threads(job.threads)
        self.job, self.task, self.train = job, job.task, job.train
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.device, self._append, self._save = device, report, save
        self.processor: Processor = load_processor(job.processor)
        self.store = SampleStore(Path(job.data_dir) / "train")
        self.eval_store = SampleStore(Path(job.data_dir) / "eval")
        self.plan = StepPlan(self.store.lengths, self.train.tokens_per_step, self.train.seed)
        self.num_steps = total_steps(self.plan, self.train)
        torch.manual_seed(self.train.seed)  # a new head starts the same on every rank
        module = load_model(job.model, self.task, processor=self.processor).to(device)
        if self.train.packing:
            use_segmented_attention(module)
        precision = resolve_precision(self.train, device=device)
        self.engine = Engine(module, self.train, precision=precision, world_size=self.world_size)
        self.engine.module.train()
        self.started = time.monotonic()

    def run(self, checkpoint: Path | None = None) -> None:
        """Every step after those that ``checkpoint`` holds."""
        done = self.engine.load(checkpoint) if checkpoint else 0
        self._report({"event": "start", "step": done, "num_steps": self.num_steps})
        for step, samples, ends_epoch in self._steps():
            if step >= done:
                self._step(step, samples)
                self._after_step(step + 1, ends_epoch=ends_epoch)

    def _steps(self) -> Iterator[tuple[int, Array, bool]]:
        """Number, samples, and whether an epoch ends, of every step of the run."""
        step = 0
        for epoch in range(self.train.epochs):
            steps = self.plan.epoch_steps(epoch)
            for samples in steps:
                if step == self.num_steps:
                    return
                yield step, samples, samples is steps[-1]
                step += 1

    def _step(self, step: int, samples: Any) -> None:
        began = time.monotonic()
        batches = self._batches(samples)
        counts = torch.tensor(
            [sum(self.task.num_targets(batch) for batch in batches)],
            dtype=torch.float64,
            device=self.device,
        )
        dist.all_reduce(counts)
        global_targets = counts.item()
        loss_sum = torch.zeros(1, dtype=torch.float64, device=self.device)
        for index, batch in enumerate(batches):
            # dropout depends on seed, step, rank and micro-batch alone: a resumed run repeats it
            torch.manual_seed(self._dropout_seed(step, index))
            loss = self.task.loss(self.engine.module, self._to_device(batch))
            self.engine.backward(loss.loss_sum, global_targets=global_targets)
            loss_sum += loss.loss_sum.detach().double()
        dist.all_reduce(loss_sum)
        mean_loss = loss_sum.item() / max(1.0, global_targets)
        if not math.isfinite(mean_loss):
            raise TrainingError(
                f"the loss of step {step} is {mean_loss}. Lower train.learning_rate "
                f"({self.train.learning_rate}) or set train.precision: fp32."
            )
        rate = learning_rate(step, num_steps=self.num_steps, train=self.train)
        norm = self.engine.step(rate)
        num_tokens = int(self.store.lengths[samples].sum())
        self._report(
            {
                "event": "step",
                "step": step + 1,
                "loss": mean_loss,
                "learning_rate": rate,
                "gradient_norm": norm,
                "num_targets": global_targets,
                "num_tokens": num_tokens,
                "tokens_per_s": num_tokens / (time.monotonic() - began),
            }
        )

    def _dropout_seed(self, step: int, index: int) -> int:
        sequence = np.random.SeedSequence((self.train.seed, step, self.rank, index))
        return int(sequence.generate_state(1)[0])

    def _batches(self, samples: Any) -> list[Batch]:
        """This rank's micro-batches of a step."""
        every = step_micro_batches(
            self.plan, samples, self.task, self.train, world_size=self.world_size
        )
        return [self._collate(rows, every) for rows in every[self.rank :: self.world_size]]

    def _collate(self, rows: Sequence[Sequence[int]], every: Sequence[Any]) -> Batch:
        if not rows:  # fewer rows than ranks: the same modules run, on a row without targets
            shortest = min((row for other in every for row in other), key=len)
            return self.task.without_targets(self._collate([shortest], every))
        groups = [self.store.examples(row) for row in rows]
        if self.train.packing:
            return self.task.pack(groups, self.processor)
        return self.task.collate([group[0] for group in groups], self.processor)

    def _to_device(self, batch: Batch) -> TensorBatch:
        return {name: torch.from_numpy(array).to(self.device) for name, array in batch.items()}

    def _after_step(self, step: int, *, ends_epoch: bool) -> None:
        is_last = step == self.num_steps
        every = self.train.evaluate_every
        if is_last or (step % every == 0 if every else ends_epoch):
            self._evaluate(step)
        every = self.train.checkpoint_every
        if is_last or (step % every == 0 if every else ends_epoch):
            self._checkpoint(step, with_weights=is_last)

    def _evaluate(self, step: int) -> None:
        examples = self.eval_store.examples(range(len(self.eval_store)))
        figures = evaluate_sharded(
            self.task,
            self.engine.bare_module,
            self.processor,
            examples,
            max_batch_tokens=max(4096, self.eval_store.summary().longest),
            precision=self.engine.precision,
        )
        self._report({"event": "evaluation", "step": step, **figures})

    def _checkpoint(self, step: int, *, with_weights: bool) -> None:
        """Saves the resumable state and, at the end, the model as transformers reads it."""
        state = self.engine.full_state_dict() if with_weights else {}
        with tempfile.TemporaryDirectory(prefix="ray-sft-checkpoint-") as name:
            folder = Path(name)
            self.engine.save(folder, step=step)
            if with_weights and self.rank == 0:
                self.engine.bare_module.save_pretrained(folder / WEIGHTS, state_dict=state)  # type: ignore[operator]
            self._save(folder, step)

    def _report(self, record: dict[str, Any]) -> None:
        if self.rank == 0:
            self._append(record | {"elapsed_s": time.monotonic() - self.started})


def run_worker(config: dict[str, Job]) -> None:
    """Trains until the last step; the entry point of a Ray Train worker."""
    job = config["job"]

    def save(folder: Path, step: int) -> None:
        checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({"step": step}, checkpoint=checkpoint)

    def report(record: dict[str, Any]) -> None:
        job.log.append.remote(record)

    loop = Loop(job, device=ray.train.torch.get_device(), report=report, save=save)
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        loop.run()
    else:
        with checkpoint.as_directory() as folder:
            loop.run(Path(folder))
