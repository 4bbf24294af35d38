"""What a checkpoint holds: the state to go on from and, in the last one, the finished weights."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from ray_sft.core import TrainingError, reason_of
from ray_sft.models import load_tasks
from ray_sft.objectives import PROJECTION
from ray_sft.tasks import Processor
from ray_sft.training.best import Best
from ray_sft.training.engine import Engine
from ray_sft.training.job import WEIGHTS, Job

__all__ = ["CheckpointWriter"]


class CheckpointWriter:
    """One rank's part of the checkpoints of a run."""

    def __init__(self, job: Job, engine: Engine, best: Best, *, processor: Processor) -> None:
        """Writes what ``engine`` trains for ``job``, and the ``best`` weights where wanted."""
        self._job, self._engine, self._best, self._processor = job, engine, best, processor

    def write(self, progress: dict[str, Any], *, is_last: bool) -> Path:
        """A new folder with this rank's part; every rank must call it.

        The last checkpoint has the model as transformers reads it, too.

        Raises:
            TrainingError: the folder cannot be written.
        """
        folder = Path(tempfile.mkdtemp(prefix="ray-sft-checkpoint-"))
        try:
            self._engine.save(folder, progress=progress)
            has_best = self._best.keeps and self._best.step > 0
            if has_best and self._engine.rank == 0:
                self._best.copy_weights(folder, finished_as=WEIGHTS if is_last else "")
            elif is_last and not has_best:
                self.write_weights(folder / WEIGHTS)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError | RuntimeError):  # torch's writer raises the latter
                raise TrainingError(
                    f"the checkpoint of step {progress['step']} cannot be written to "
                    f"'{folder.parent}': {reason_of(error)}"
                ) from error
            raise
        return folder

    def write_weights(self, folder: Path) -> None:
        """The weights of now, whole, by rank 0; every rank must call it."""
        state = self._engine.full_state_dict()
        if self._engine.rank == 0:
            self._save_weights(folder, state)

    def _save_weights(self, folder: Path, state: dict[str, torch.Tensor]) -> None:
        """The model with its adapters merged; the trained module's own weights may be parts.

        What was trained beside a student is no part of it.
        """
        job = self._job
        state = {name: weight for name, weight in state.items() if PROJECTION not in name}
        if job.adapter is None:
            self._engine.bare_module.save_pretrained(folder, state_dict=state)  # type: ignore[operator]
            return
        model = load_tasks(job.model, job.tasks, processor=self._processor)
        tuner = job.adapter.inject(model, job.tasks, self._processor, packed=False)
        # packed weights are in no state; they are what the model has been given
        missing, unexpected = model.load_state_dict(state, strict=not job.adapter.four_bit)
        assert not unexpected, unexpected
        assert all(name.endswith(".weight") for name in missing), missing
        tuner.merge_and_unload().save_pretrained(folder)
