"""The training loop of one rank.

for step in plan:                       the same plan on every rank
    micro-batches of this rank          of one task each; an empty one runs with no targets
    targets of the whole step           one all-reduce before any backward
    backward for each, then one update  every task by its own targets
    finite?                             all ranks see the same loss and stop together
    evaluate, checkpoint                all ranks, at the same steps
"""

import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.distributed as dist

from ray_sft.core import ConfigError, TrainingError
from ray_sft.data import Rows, SampleStore, num_positions
from ray_sft.models import (
    SharedSequence,
    checkpoint_activations,
    compile_layers,
    leave_out_padding,
    load_processor,
    load_tasks,
    model_config,
    part_of,
    sharing,
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
from ray_sft.training.checkpoint import CheckpointWriter
from ray_sft.training.deepspeed_config import resolve_precision
from ray_sft.training.engine import Engine
from ray_sft.training.epochs import Epochs, PlannedStep
from ray_sft.training.evaluate import evaluate_sharded
from ray_sft.training.job import Job
from ray_sft.training.losses import HeldWeights, Losses
from ray_sft.training.schedule import learning_rate
from ray_sft.training.task_weights import TaskWeights

__all__ = ["Loop"]


class Loop:
    """One rank of a run. Knows torch.distributed, but neither Ray nor where checkpoints go."""

    def __init__(
        self,
        job: Job,
        *,
        device: torch.device,
        report: Callable[[dict[str, Any]], None],
        save: Callable[[Path, int, bool], None],
        note: Callable[[int, str], None],
    ) -> None:
        """Loads data and model.

        Args:
            job: what to train, the same on every rank.
            device: of this rank.
            report: takes a record; called on rank 0.
            save: publishes a folder with this rank's part of the checkpoint of a step, which may
                be the last, and removes the folder when that is done.
            note: is told the step and the phase of it (`pulse.PHASES`) that this rank is in.
        """
        torch.set_num_threads(job.threads)
        self.job, self.tasks, self.train = job, job.tasks, job.train
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.replica = self.rank // self.train.sharers
        self.replicas = self.world_size // self.train.sharers
        self.sequence_group = _group_of(self.train.sequence_parallel)
        self.device, self._append, self._save, self._note = device, report, save, note
        self.processor: Processor = load_processor(job.processor)
        folders = {name: Path(folder) for name, folder in job.data_dirs.items()}
        self.eval_stores = {n: SampleStore(folder / "eval") for n, folder in folders.items()}
        torch.manual_seed(self.train.seed)  # a new head starts the same on every rank
        module = load_tasks(job.model, self.tasks, processor=self.processor)
        self.num_parameters = sum(one.numel() for one in module.parameters())
        if job.adapter is not None:
            job.adapter.inject(module, self.tasks, self.processor)
        self.num_trained = sum(one.numel() for one in module.parameters() if one.requires_grad)
        if job.distillation is not None:
            width = model_config(job.teachers[0]).hidden_size
            job.distillation.prepare(module, teacher_width=width)
        if self.train.activation_checkpointing:
            checkpoint_activations(module)
        joins_rows = self.train.packing and use_segmented_attention(module)
        # a teacher's layers are compared with the student's, position by position
        leaves_out = not (self.train.packing or job.distillation) and leave_out_padding(module)
        self.is_unpadded = joins_rows or leaves_out
        if self.sequence_group and not joins_rows:
            raise ConfigError(
                f"train.sequence_parallel: attention of {type(module).__name__} looks through "
                "windows that slide, which workers cannot share. Leave it out."
            )
        self.epochs = Epochs(job, processor=self.processor, joins_rows=joins_rows)
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
        self.checkpoints = CheckpointWriter(job, self.engine, self.best, processor=self.processor)
        self._loss_fns = {name: losses.of(name) for name in self.tasks}
        self.started = time.monotonic()

    def run(self, checkpoint: Path | None = None) -> None:
        """Every step after those that ``checkpoint`` holds, or until no evaluation gets better."""
        with closing(self.best):
            done, place = self._resume(checkpoint) if checkpoint else (0, None)
            self._report(
                {
                    "event": "start",
                    "step": done,
                    "num_steps": self.epochs.num_steps,
                    "num_parameters": self.num_parameters,
                    "num_trained": self.num_trained,
                }
            )
            self._note(done, "reads rows")
            steps = self.epochs.steps(done, place)
            while not self.best.ends and (step := next(steps, None)):
                self._step(step.number, step.samples, epoch=step.epoch, waited_s=step.waited_s)
                self._after_step(step)

    def _resume(self, checkpoint: Path) -> tuple[int, Mapping[str, int] | None]:
        """The number of steps that a checkpoint holds, which is loaded, and where it stands."""
        progress = self.engine.load(checkpoint)
        self.best.restore(progress["best"], checkpoint)
        self.weights.restore(progress["weights"])
        return int(progress["step"]), progress.get("place")

    def _step(self, step: int, samples: Array, *, epoch: int = 0, waited_s: float = 0.0) -> None:
        began = time.monotonic()
        self._note(step, "reads rows")
        planned = self.epochs.batches.planned(samples, world_size=self.replicas)
        batches = self.epochs.batches.of_rank(
            planned, epoch=epoch, rank=self.replica, world_size=self.replicas
        )
        batches, shared = self._own_parts(batches)
        data_wait_s = waited_s + time.monotonic() - began
        self._note(step, "waits for the others")
        targets = self._over_ranks(self._count_targets(batches))
        self._note(step, "computes")
        weights = self.weights.now()
        parts = {name: torch.zeros((), dtype=torch.float64, device=self.device) for name in targets}
        for index, (name, batch) in enumerate(batches):
            # dropout depends on seed, step, place and micro-batch alone: a resumed run repeats it
            torch.manual_seed(self._dropout_seed(step, index))
            with sharing(shared[index]):
                loss = self._loss_fns[name](self._to_device(batch))
                weighted = loss.loss_sum * weights[name]
                with self.weights.counting(name):
                    self.engine.backward(weighted, global_targets=targets[name])
            parts[name] += loss.loss_sum.detach().double()
        sums = self._over_ranks(parts)
        means = {name: sums[name] / max(1.0, targets[name]) for name in self.tasks}
        mean_loss = sum(weights[name] * mean for name, mean in means.items())
        self._check_finite(f"the loss of step {step + 1}", mean_loss, own=parts)
        rate = learning_rate(step, num_steps=self.epochs.num_steps, train=self.train)
        norm = self.engine.step(rate)
        if norm is not None:
            self._check_finite(f"the gradient of step {step + 1}", norm, own=parts)
        self.weights.after_step(means, targets)
        num_tokens = int(self.epochs.samples.lengths[samples].sum())
        positions = num_tokens if self.is_unpadded else self._num_positions(planned)
        self._report(
            {
                "event": "step",
                "step": step + 1,
                "rows": f"{zlib.crc32(np.ascontiguousarray(samples).tobytes()):08x}",
                "loss": mean_loss,
                "learning_rate": rate,
                "gradient_norm": math.nan if norm is None else norm,
                "num_targets": sum(targets.values()),
                "num_tokens": num_tokens,
                "tokens_per_s": num_tokens / (time.monotonic() - began),
                "data_wait_s": data_wait_s,
                "padding": 1 - num_tokens / positions,
                "memory_gb": _memory_bytes(self.device) / 1e9,
            }
            | (_by_task("loss", means) if len(means) > 1 else {})
            | ({"window": epoch + 1} if self.job.windows else {})
            | ({} if self.weights.are_fixed else _by_task("weight", weights))
        )

    def _own_parts(
        self, batches: list[tuple[str, Batch]]
    ) -> tuple[list[tuple[str, Batch]], list[SharedSequence | None]]:
        """What this rank runs of each micro-batch, and what attention knows of the rest."""
        if self.sequence_group is None:
            return batches, [None] * len(batches)
        size = self.train.sequence_parallel
        found = [part_of(batch, place=self.rank % size, size=size) for _, batch in batches]
        own = [(name, part) for (name, _), (part, _) in zip(batches, found, strict=True)]
        positions = (torch.from_numpy(every).to(self.device) for _, every in found)
        return own, [SharedSequence(self.sequence_group, size, every) for every in positions]

    def _num_positions(self, planned: Mapping[str, list[Rows]]) -> int:
        return sum(num_positions(every, self.epochs.samples.lengths) for every in planned.values())

    def _count_targets(self, batches: Sequence[tuple[str, Batch]]) -> dict[str, float]:
        counts = dict.fromkeys(self.tasks, 0.0)
        for name, batch in batches:
            counts[name] += self.tasks[name].num_targets(batch)
        return counts

    def _over_ranks(self, figures: Mapping[str, float | torch.Tensor]) -> dict[str, float]:
        """The sum of each task's figure, where ranks that share layers have the same one."""
        parts = [torch.as_tensor(part, device=self.device) for part in figures.values()]
        total = torch.stack(parts).double() / self.train.tensor_parallel
        dist.all_reduce(total)
        return dict(zip(figures, total.tolist(), strict=True))

    def _check_finite(self, what: str, figure: float, *, own: Mapping[str, torch.Tensor]) -> None:
        """Ends the run where a figure is not finite; the same on every rank.

        Raises:
            TrainingError: names the ranks whose ``own`` losses are not finite.
        """
        if math.isfinite(figure):
            return
        finite = all(bool(torch.isfinite(part)) for part in own.values())
        flags = torch.zeros(self.world_size, device=self.device)
        flags[self.rank] = float(not finite)
        dist.all_reduce(flags)
        ranks = ", ".join(str(rank) for rank in flags.nonzero().flatten().tolist())
        where = f", by the rows of worker {ranks}" if ranks else ""
        raise TrainingError(
            f"{what} is {figure}{where}. Lower train.learning_rate ({self.train.learning_rate}) or "
            "set train.precision: fp32."
        )

    def _dropout_seed(self, step: int, index: int) -> int:
        place = self.rank // self.train.tensor_parallel
        sequence = np.random.SeedSequence((self.train.seed, step, place, index))
        return int(sequence.generate_state(1)[0])

    def _to_device(self, batch: Batch) -> TensorBatch:
        return {name: torch.from_numpy(array).to(self.device) for name, array in batch.items()}

    def _after_step(self, planned: PlannedStep) -> None:
        step = planned.number + 1
        is_last = step == self.epochs.num_steps
        every = self.train.evaluate_every
        if is_last or (step % every == 0 if every else planned.ends_epoch):
            self._note(step - 1, "evaluates")
            self._evaluate(step)
            is_last = is_last or self.best.ends
        every = self.train.checkpoint_every
        if is_last or (step % every == 0 if every else planned.ends_epoch):
            self._note(step - 1, "saves")
            began = time.monotonic()
            place = self.epochs.place_after(planned)
            state = {"step": step, "place": place}
            state |= {"best": self.best.state(), "weights": self.weights.state()}
            self._save(self.checkpoints.write(state, is_last=is_last), step, is_last)
            self.epochs.saved(place)
            stall_s = time.monotonic() - began
            self._report({"event": "checkpoint", "step": step, "stall_s": stall_s})
        if not is_last:
            self._note(step, "reads rows")

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
            self.checkpoints.write_weights(self.best.weights_dir)
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
            tensor_parallel=self.train.tensor_parallel,
        )

    def _report(self, record: dict[str, Any]) -> None:
        if self.rank == 0:
            self._append(record | {"elapsed_s": time.monotonic() - self.started})


def _group_of(size: int) -> Any:
    """The process group of the ranks that share a sequence with this one, or None."""
    if size == 1:
        return None
    group, _ = dist.new_subgroups(group_size=size)  # type: ignore[no-untyped-call] # torch's
    return group


def _memory_bytes(device: torch.device) -> int:
    """The most that this process has had of a GPU, or what it has of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def _by_task(what: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{what}/{name}": figure for name, figure in figures.items()}
