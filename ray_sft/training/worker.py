"""What a Ray Train worker runs: the loop, its records and pulse, and where checkpoints go."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch.distributed as dist
from ray.train import CheckpointUploadMode

from ray_sft.training.job import Job
from ray_sft.training.loop import Loop
from ray_sft.training.pulse import Pulse

__all__ = ["run_worker"]

_POLL_S = 0.1


def run_worker(config: dict[str, Job]) -> None:
    """Trains until the last step; the entry point of a Ray Train worker."""
    job = config["job"]

    on_their_way: list[Path] = []

    def save(folder: Path, step: int, is_last: bool) -> None:
        """Stores a checkpoint while training goes on; one at a time, and waits for the last."""
        while on_their_way and on_their_way[0].exists():
            time.sleep(_POLL_S)
        on_their_way[:] = [folder]
        mode = CheckpointUploadMode.SYNC if is_last else CheckpointUploadMode.ASYNC
        ray.train.report(
            {"step": step},
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_upload_mode=mode,
            delete_local_checkpoint_after_upload=True,
        )

    def report(record: dict[str, Any]) -> None:
        job.log.append.remote(record)

    rank = dist.get_rank()
    with Pulse(partial(job.log.heard.remote, rank)) as pulse:
        loop = Loop(
            job, device=ray.train.torch.get_device(), report=report, save=save, note=pulse.note
        )
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            loop.run()
        else:
            with checkpoint.as_directory() as folder:
                loop.run(Path(folder))
