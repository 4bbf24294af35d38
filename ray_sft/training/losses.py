"""The loss that a worker minimises, by task, from the inside out.

the task's own            on the model that the engine trains
distillation              a teacher's answers and layers
learning without          the former model's answers
  forgetting
the recipe's objectives   the first one innermost
ewc                       the former model's weights; once, however often objectives run the model
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from safetensors.torch import load_file

from ray_sft.models import HeadView, load_tasks, use_segmented_attention, uses_heads
from ray_sft.objectives import wrap_all
from ray_sft.tasks import Loss, LossFn, Processor, TensorBatch
from ray_sft.training.engine import Engine
from ray_sft.training.job import Job

__all__ = ["HeldWeights", "Losses"]


@dataclass(frozen=True, slots=True)
class HeldWeights:
    """What EWC holds the weights to, by name; whole on every rank."""

    anchors: Mapping[str, torch.Tensor]
    fisher: Mapping[str, torch.Tensor]

    @classmethod
    def of(cls, job: Job, module: torch.nn.Module) -> "HeldWeights | None":
        """The weights of ``module`` as the run starts; to be asked before an engine has them."""
        if job.former is None or job.former.settings.ewc is None:
            return None
        device = next(module.parameters()).device
        fisher = load_file(job.former.fisher, device=str(device))
        own = dict(module.named_parameters())
        return cls({name: own[name].detach().clone() for name in fisher}, fisher)


class Losses:
    """Builds the losses of a run's tasks."""

    def __init__(
        self, job: Job, engine: Engine, *, processor: Processor, held: HeldWeights | None
    ) -> None:
        """Loads other models where the job has teachers, or a former model to listen to."""
        self._job, self._engine, self._held = job, engine, held
        self._device = next(engine.bare_module.parameters()).device
        others: tuple[str, ...] = ()
        if job.distillation is not None:
            others = job.teachers
        elif job.former is not None and job.former.settings.learning_without_forgetting:
            others = (job.model,)
        self._others = [self._load(other, processor) for other in others]

    def _load(self, reference: str, processor: Processor) -> torch.nn.Module:
        """A whole model on every rank: it runs without the others, and is never trained."""
        module = load_tasks(reference, self._job.tasks, processor=processor)
        if self._job.train.packing:
            use_segmented_attention(module)
        return module.to(self._device).eval().requires_grad_(False)

    def of(self, name: str) -> LossFn:
        """The loss of a micro-batch of the task ``name``."""
        job, module = self._job, self._engine.bare_module
        loss_fn = self._listening(name, self._plain(name, self._engine.module))
        loss_fn = wrap_all(job.objectives, loss_fn, module)
        ewc = job.former.settings.ewc if job.former else None
        if ewc is None or self._held is None:
            return loss_fn
        return ewc.wrap(loss_fn, module, anchors=self._held.anchors, fisher=self._held.fisher)

    def _listening(self, name: str, loss_fn: LossFn) -> LossFn:
        """``loss_fn`` with what other models say."""
        job = self._job
        if not self._others:
            return loss_fn
        other_loss_fns = [self._in_precision(self._plain(name, one)) for one in self._others]
        if job.distillation is not None:
            return job.distillation.wrap(
                loss_fn,
                self._engine.bare_module,
                teacher_loss_fn=job.distillation.joined(other_loss_fns),
                teacher=self._others[0],
                labels_tokens=job.tasks[name].labels_tokens,
            )
        assert job.former is not None
        keep = job.former.settings.learning_without_forgetting
        assert keep is not None
        num_known = job.former.num_known.get(name, 0)
        (former_loss_fn,) = other_loss_fns
        return keep.wrap(loss_fn, former_loss_fn=former_loss_fn, num_known=num_known)

    def _plain(self, name: str, module: torch.nn.Module) -> LossFn:
        tasks = self._job.tasks
        model = HeadView(module, name) if uses_heads(tasks) else module
        return partial(tasks[name].loss, model)

    def _in_precision(self, loss_fn: LossFn) -> LossFn:
        """``loss_fn`` in the arithmetic that the engine gives to the model it trains."""
        bf16 = self._engine.precision == "bf16"

        def cast(batch: TensorBatch) -> Loss:
            with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=bf16):
                return loss_fn(batch)

        return cast
