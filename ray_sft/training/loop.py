"""The training loop, as one Ray Train worker runs it.

for step in plan:                       the same plan on every rank
    micro-batches of this rank          of one task each; an empty one runs with no targets
    targets of the whole step           one all-reduce before any backward
    backward for each, then one update  every task by its own targets
    finite?                             all ranks see the same loss and stop together
    evaluate, checkpoint                all ranks, at the same steps
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from ray_sft.core import TrainingError
from ray_sft.data import Mixture, Rows, SampleStore, StepPlan, num_positions
from ray_sft.models import (
    checkpoint_activations,
    compile_layers,
    leave_out_padding,
    load_processor,
    load_tasks,
    use_segmented_attention,
    uses_heads,
)
from ray_sft.tasks import (
    Array,
    Batch,
    Processor,
    TensorBatch,
)
from ray_sft.training.best import Best
from ray_sft.training.config import Train
from ray_sft.training.continual import Former
from ray_sft.training.engine import Engine, resolve_precision
from ray_sft.training.evaluate import evaluate_sharded
from ray_sft.training.job import WEIGHTS, Job
from ray_sft.training.losses import HeldWeights, Losses
from ray_sft.training.schedule import learning_rate
from ray_sft.training.step_batches import StepBatches, mixup_of
from ray_sft.training.task_weights import TaskWeights

__all__ = ["Loop", "run_worker", "total_steps"]


def total_steps(plan: StepPlan, train: Train) -> int:
    """The optimizer steps of a run."""
    return train.steps or sum(len(plan.epoch_steps(epoch)) for epoch in range(train.epochs))


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
        self.job, self.tasks, self.train = job, job.tasks, job.train
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.device, self._append, self._save = device, report, save
        self.processor: Processor = load_processor(job.processor)
        folders = {name: Path(folder) for name, folder in job.data_dirs.items()}
        stores = {name: SampleStore(folder / "train") for name, folder in folders.items()}
        self.samples = _mixture(stores, job.former)
        self.eval_stores = {n: SampleStore(folder / "eval") for n, folder in folders.items()}
        self.plan = StepPlan(
            self.samples.lengths,
            self.train.tokens_per_step,
            self.train.seed,
            self.samples.weights,
        )
        self.num_steps = total_steps(self.plan, self.train)
        torch.manual_seed(self.train.seed)  # a new head starts the same on every rank
        module = load_tasks(job.model, self.tasks, processor=self.processor)
        if job.adapter is not None:
            job.adapter.inject(module, self.tasks)
        if self.train.activation_checkpointing:
            checkpoint_activations(module)
        joins_rows = self.train.packing and use_segmented_attention(module)
        # a teacher's layers are compared with the student's, position by position
        leaves_out = not (self.train.packing or job.distillation) and leave_out_padding(module)
        self.is_unpadded = joins_rows or leaves_out
        self.batches = StepBatches(
            self.plan,
            self.samples,
            self.tasks,
            self.train,
            processor=self.processor,
            mixup=mixup_of(job.objectives),
            joins_rows=joins_rows,
        )
        if self.train.compile:
            compile_layers(module)
        held = HeldWeights.of(job, module)
        self.weights = TaskWeights(self.tasks, self.train, module)
        precision = resolve_precision(self.train, device=device)
        self.engine = Engine(
            module.to(device), self.train, precision=precision, world_size=self.world_size
        )
        self.engine.module.train()
        losses = Losses(job, self.engine, processor=self.processor, held=held)
        self.best = Best(self.tasks, self.train)
        self._loss_fns = {name: losses.of(name) for name in self.tasks}
        self.started = time.monotonic()

    def run(self, checkpoint: Path | None = None) -> None:
        """Every step after those that ``checkpoint`` holds, or until no evaluation gets better."""
        with closing(self.best):
            done = self._resume(checkpoint) if checkpoint else 0
            self._report({"event": "start", "step": done, "num_steps": self.num_steps})
            for step, epoch, samples, ends_epoch in self._steps():
                if step < done:
                    continue
                if self.best.ends:
                    break
                self._step(step, samples, epoch=epoch)
                self._after_step(step + 1, ends_epoch=ends_epoch)

    def _resume(self, checkpoint: Path) -> int:
        """The number of steps that a checkpoint holds, which is loaded."""
        progress = self.engine.load(checkpoint)
        self.best.restore(progress["best"], checkpoint)
        self.weights.restore(progress["weights"])
        return int(progress["step"])

    def _steps(self) -> Iterator[tuple[int, int, Array, bool]]:
        """Number, epoch, samples, and whether the epoch ends, of every step of the run."""
        step = 0
        for epoch in count():
            steps = self.plan.epoch_steps(epoch)
            for samples in steps:
                if step == self.num_steps:
                    return
                yield step, epoch, samples, samples is steps[-1]
                step += 1

    def _step(self, step: int, samples: Array, *, epoch: int = 0) -> None:
        began = time.monotonic()
        planned = self.batches.planned(samples, world_size=self.world_size)
        batches = self.batches.of_rank(
            planned, epoch=epoch, rank=self.rank, world_size=self.world_size
        )
        data_wait_s = time.monotonic() - began
        targets = self._over_ranks(self._count_targets(batches))
        weights = self.weights.now()
        parts = {name: torch.zeros((), dtype=torch.float64, device=self.device) for name in targets}
        for index, (name, batch) in enumerate(batches):
            # dropout depends on seed, step, rank and micro-batch alone: a resumed run repeats it
            torch.manual_seed(self._dropout_seed(step, index))
            loss = self._loss_fns[name](self._to_device(batch))
            with self.weights.counting(name):
                self.engine.backward(loss.loss_sum * weights[name], global_targets=targets[name])
            parts[name] += loss.loss_sum.detach().double()
        sums = self._over_ranks(parts)
        means = {name: sums[name] / max(1.0, targets[name]) for name in self.tasks}
        mean_loss = sum(weights[name] * mean for name, mean in means.items())
        if not math.isfinite(mean_loss):
            raise TrainingError(
                f"the loss of step {step} is {mean_loss}. Lower train.learning_rate "
                f"({self.train.learning_rate}) or set train.precision: fp32."
            )
        rate = learning_rate(step, num_steps=self.num_steps, train=self.train)
        norm = self.engine.step(rate)
        self.weights.after_step(means, targets)
        num_tokens = int(self.samples.lengths[samples].sum())
        positions = num_tokens if self.is_unpadded else self._num_positions(planned)
        self._report(
            {
                "event": "step",
                "step": step + 1,
                "loss": mean_loss,
                "learning_rate": rate,
                "gradient_norm": norm,
                "num_targets": sum(targets.values()),
                "num_tokens": num_tokens,
                "tokens_per_s": num_tokens / (time.monotonic() - began),
                "data_wait_s": data_wait_s,
                "padding": 1 - num_tokens / positions,
            }
            | (_by_task("loss", means) if len(means) > 1 else {})
            | ({} if self.weights.are_fixed else _by_task("weight", weights))
        )

    def _num_positions(self, planned: Mapping[str, list[Rows]]) -> int:
        return sum(num_positions(every, self.samples.lengths) for every in planned.values())

    def _count_targets(self, batches: Sequence[tuple[str, Batch]]) -> dict[str, float]:
        counts = dict.fromkeys(self.tasks, 0.0)
        for name, batch in batches:
            counts[name] += self.tasks[name].num_targets(batch)
        return counts

    def _over_ranks(self, figures: Mapping[str, float | torch.Tensor]) -> dict[str, float]:
        """The sum of each task's figure over all ranks."""
        parts = [torch.as_tensor(part, device=self.device) for part in figures.values()]
        total = torch.stack(parts).double()
        dist.all_reduce(total)
        return dict(zip(figures, total.tolist(), strict=True))

    def _dropout_seed(self, step: int, index: int) -> int:
        sequence = np.random.SeedSequence((self.train.seed, step, self.rank, index))
        return int(sequence.generate_state(1)[0])

    def _to_device(self, batch: Batch) -> TensorBatch:
        return {name: torch.from_numpy(array).to(self.device) for name, array in batch.items()}

    def _after_step(self, step: int, *, ends_epoch: bool) -> None:
        is_last = step == self.num_steps
        every = self.train.evaluate_every
        if is_last or (step % every == 0 if every else ends_epoch):
            self._evaluate(step)
            is_last = is_last or self.best.ends
        every = self.train.checkpoint_every
        if is_last or (step % every == 0 if every else ends_epoch):
            self._checkpoint(step, is_last=is_last)

    def _evaluate(self, step: int) -> None:
        figures = {name: self._evaluate_task(name) for name in self.tasks}
        if len(figures) == 1:
            (flat,) = figures.values()
        else:
            losses = {name: found["loss"] for name, found in figures.items()}
            flat = {"loss": self.weights.fixed(losses)}
            for name, found in figures.items():
                flat |= {f"{name}/{figure}": value for figure, value in found.items()}
        self._report({"event": "evaluation", "step": step, **flat})
        is_better = self.best.update(flat, step=step)
        if is_better and self.best.keeps:
            self._write_weights(self.best.weights_dir)
        if self.best.ends:
            self._report({"event": "end", "step": step, "best_step": self.best.step})

    def _evaluate_task(self, name: str) -> dict[str, float]:
        store = self.eval_stores[name]
        return evaluate_sharded(
            self.tasks[name],
            self.engine.bare_module,
            self.processor,
            store.all(),
            head=name if uses_heads(self.tasks) else "",
            max_batch_tokens=max(4096, store.summary().longest),
            precision=self.engine.precision,
        )

    def _checkpoint(self, step: int, *, is_last: bool) -> None:
        """Saves the resumable state and, at the end, the model as transformers reads it."""
        with tempfile.TemporaryDirectory(prefix="ray-sft-checkpoint-") as name:
            folder = Path(name)
            progress = {
                "step": step,
                "best": self.best.state(),
                "weights": self.weights.state(),
            }
            self.engine.save(folder, progress=progress)
            has_best = self.best.keeps and self.best.step > 0
            if has_best and self.rank == 0:
                self.best.copy_weights(folder, finished_as=WEIGHTS if is_last else "")
            elif is_last and not has_best:
                self._write_weights(folder / WEIGHTS)
            self._save(folder, step)

    def _write_weights(self, folder: Path) -> None:
        """The weights of now, whole, by rank 0; every rank must call it."""
        state = self.engine.full_state_dict()
        if self.rank == 0:
            self._save_weights(folder, state)

    def _save_weights(self, folder: Path, state: dict[str, torch.Tensor]) -> None:
        """The model with its adapters merged; the trained module's own weights may be parts."""
        if self.job.adapter is None:
            self.engine.bare_module.save_pretrained(folder, state_dict=state)  # type: ignore[operator]
            return
        model = load_tasks(self.job.model, self.tasks, processor=self.processor)
        tuner = self.job.adapter.inject(model, self.tasks)
        model.load_state_dict(state)
        tuner.merge_and_unload().save_pretrained(folder)

    def _report(self, record: dict[str, Any]) -> None:
        if self.rank == 0:
            self._append(record | {"elapsed_s": time.monotonic() - self.started})


def _mixture(stores: Mapping[str, SampleStore], former: Former | None) -> Mixture:
    """The samples of a run, with those of earlier trainings to be replayed."""
    if former is None:
        return Mixture(stores)
    earlier = {
        name: [SampleStore(Path(folder)) for folder in folders]
        for name, folders in former.data_dirs.items()
    }
    return Mixture(stores, earlier, replay=former.settings.replay)


def _by_task(what: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{what}/{name}": figure for name, figure in figures.items()}


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
