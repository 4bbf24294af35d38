"""The one file that knows DeepSpeed.

The loss rule: with ``T`` the targets of the whole step over all ranks and micro-batches, each
micro-batch contributes ``loss_sum / T * world_size``. DeepSpeed averages gradients over ranks, so
the result is the gradient of the mean over all targets, however the step was cut.
"""

import io
import json
import logging
import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from deepspeed.checkpoint import ds_to_universal
from deepspeed.module_inject.layers import TensorParallel_Layer
from filelock import FileLock
from torch.utils import cpp_extension

from ray_sft.core import TrainingError
from ray_sft.training.config import Train
from ray_sft.training.deepspeed_config import deepspeed_config

__all__ = ["Engine", "compile_operators"]

logger = logging.getLogger(__name__)

_CHECKPOINT_TAG = "state"
_WORLD = "world.json"
"""File of a checkpoint that says how many ranks have written it."""


def compile_operators() -> None:
    """Compiles what DeepSpeed needs to talk between processes on CPUs, once a machine.

    torch marks a compilation by a file that stays when it is killed, and for which every later
    one waits forever. Ours run one at a time under a lock that ends with its process, so such a
    file is nobody's and is removed.
    """
    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is None or not builder.is_compatible():  # on GPUs
        return
    folder = Path(cpp_extension._get_build_directory(builder.name, verbose=False))
    with FileLock(folder.with_suffix(".ray-sft.lock")):
        left = folder / "lock"
        if left.exists():
            logger.warning("removed '%s', which a compilation that was stopped has left", left)
            left.unlink()
        builder.load(verbose=False)


class Engine:
    """A model under DeepSpeed: backward, step, save, load, and whole weights at the end."""

    def __init__(
        self, module: torch.nn.Module, train: Train, *, precision: str, world_size: int
    ) -> None:
        """Wraps ``module``, which already lies on its device."""
        compile_operators()
        self.rank, self.world_size = dist.get_rank(), world_size
        self._tensor_parallel = train.tensor_parallel
        self.precision = precision
        optimizer = torch.optim.AdamW(
            list(_parameter_groups(module, train.weight_decay)),
            lr=train.learning_rate,
            betas=(train.beta1, train.beta2),
            fused=True,
        )
        config = deepspeed_config(
            train,
            precision=precision,
            world_size=world_size,
            device=next(module.parameters()).device,
        )
        self._engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=config)
        self.module: torch.nn.Module = self._engine

    @property
    def bare_module(self) -> torch.nn.Module:
        """The model without DeepSpeed's wrapper, for evaluation."""
        module: torch.nn.Module = self._engine.module
        return module

    def backward(self, loss_sum: torch.Tensor, *, global_targets: float) -> None:
        """Adds the gradient of a micro-batch of a step with ``global_targets`` targets."""
        replicas = self.world_size // self._tensor_parallel
        scaled = loss_sum * (replicas / max(1.0, global_targets))
        self._engine.backward(scaled, scale_wrt_gas=False)

    def step(self, learning_rate: float) -> float | None:
        """Updates the weights; returns the global gradient norm before clipping, if it is known."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    def save(self, folder: Path, *, progress: dict[str, Any]) -> None:
        """Writes this rank's part of the resumable state; every rank must call it."""
        self._engine.save_checkpoint(
            str(folder), tag=_CHECKPOINT_TAG, client_state={"run": progress}, save_latest=False
        )
        if self.rank == 0:
            world = {"world_size": self.world_size, "tensor_parallel": self._tensor_parallel}
            (folder / _WORLD).write_text(json.dumps(world))

    def load(self, folder: Path) -> dict[str, Any]:
        """Restores the state that `save` wrote; returns the ``progress`` that was given to it.

        State that so many ranks have written is brought into DeepSpeed's universal form where it
        is read by another number of them. Every rank must call it.

        Raises:
            TrainingError: layers were shared, and the number of ranks is another one.
        """
        world = json.loads((folder / _WORLD).read_text())
        saved, parts = world["world_size"], world.get("tensor_parallel", 1)
        if saved != self.world_size and max(parts, self._tensor_parallel) > 1:
            raise TrainingError(
                f"the checkpoint was written by {saved} workers of which {parts} share each layer, "
                f"and is read by {self.world_size}. Set train.workers: {saved}."
            )
        tag = _CHECKPOINT_TAG
        if saved != self.world_size and self._engine.zero_optimization_stage() > 0:
            tag = f"{_CHECKPOINT_TAG}-universal"
            if int(os.environ.get("LOCAL_RANK", "0")) == 0:
                _make_universal(folder / _CHECKPOINT_TAG, folder / tag)
            dist.barrier()
            self._engine._config.load_universal_checkpoint = True
        path, state = self._engine.load_checkpoint(str(folder), tag=tag)
        self._engine._config.load_universal_checkpoint = False
        assert path is not None, f"no checkpoint in {folder}"
        progress: dict[str, Any] = state["run"]
        return progress

    def full_state_dict(self) -> dict[str, torch.Tensor]:
        """Whole fp32 weights on the CPU, under every stage; every rank must call it."""
        module = self._engine.module
        parameters = list(module.parameters())
        partitioned = self._engine.zero_optimization_stage() == 3
        with deepspeed.zero.GatheredParameters(parameters, enabled=partitioned):
            return {
                name: tensor.detach().to("cpu", copy=True).contiguous()
                for name, tensor in (module.state_dict() | _joined(module)).items()
            }


def _joined(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The whole weights of the layers that are shared by ranks."""
    whole: dict[str, torch.Tensor] = {}
    for prefix, layer in module.named_modules():
        if isinstance(layer, TensorParallel_Layer):
            own = dict(layer.named_parameters(recurse=False))
            # copies, for DeepSpeed puts what it gathers in their place
            copies = [parameter.detach().clone() for parameter in own.values()]
            layer.gather_params(copies)
            whole |= {f"{prefix}.{name}": copy for name, copy in zip(own, copies, strict=True)}
    return whole


def _make_universal(source: Path, target: Path) -> None:
    """Writes every parameter and its moments whole, from the parts of all ranks."""
    logger.info("bringing the checkpoint '%s' into its universal form", source)
    options = Namespace(
        input_folder=str(source),
        output_folder=str(target),
        num_extract_workers=1,
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        ds_to_universal.main(options)


def _parameter_groups(module: torch.nn.Module, weight_decay: float) -> Iterator[dict[str, Any]]:
    """Matrices with decay; vectors (biases, norms) without."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in parameters if parameter.ndim >= 2]
    others = [parameter for parameter in parameters if parameter.ndim < 2]
    yield {"params": decayed, "weight_decay": weight_decay}
    if others:
        yield {"params": others, "weight_decay": 0.0}
