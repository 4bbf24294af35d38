"""Runs the real loop in real processes over gloo, without Ray, and reports what it did."""

import json
import multiprocessing
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ray_sft.data.encode import EncodeRows
from ray_sft.data.index import write_index
from ray_sft.data.rows import RowBlock
from ray_sft.data.shards import write_shard
from ray_sft.tasks import AnyTask
from ray_sft.training.job import Job
from ray_sft.training.loop import Loop

_LIBRARIES = ["tests.training.worlds", "deepspeed", "transformers"]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def write_shards(task: AnyTask, processor_dir: Path, rows: Sequence[dict], out_dir: Path) -> None:
    """The shards that the data stage would write for ``rows``."""
    block = RowBlock()
    for position, row in enumerate(rows):
        block.add(position, json.dumps(row))
    table = EncodeRows(task, str(processor_dir))(block.columns())
    write_shard(out_dir, "part", [table])
    write_index(out_dir)


def run_world(
    function: Callable[..., None], world_size: int, *args: Any, device: str = "cpu"
) -> None:
    """Calls ``function(rank, *args)`` in ``world_size`` processes that form a group.

    On CPUs they are forked from a server that has imported the libraries, which takes a process of
    its own eight seconds.
    """
    joined = (world_size, free_port(), device, function, args)
    multiprocessing.set_forkserver_preload(_LIBRARIES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DS_ACCELERATOR", device)  # which DeepSpeed reads when it is imported
        method = "forkserver" if device == "cpu" else "spawn"
        mp.start_processes(_join, args=joined, nprocs=world_size, start_method=method)


def _join(
    rank: int, world_size: int, port: int, device: str, function: Callable[..., None], args: Any
) -> None:
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        DS_ACCELERATOR=device,
    )
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo", rank=rank, world_size=world_size
    )
    function(rank, *args)
    dist.barrier()
    dist.destroy_process_group()


def make_loop(job: Job, out_dir: Path) -> Loop:
    """A loop whose records and checkpoints go to files below ``out_dir``."""

    def save(folder: Path, step: int, is_last: bool) -> None:
        del is_last
        shutil.copytree(folder, out_dir / f"step-{step}", dirs_exist_ok=True)
        shutil.rmtree(folder)
        dist.barrier()

    def report(record: dict) -> None:
        with (out_dir / "records.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    out_dir.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if job.train.device == "cuda" else "cpu")
    return Loop(job, device=device, report=report, save=save, note=lambda *_: None)


def train(rank: int, job: Job, out_dir: Path, checkpoint: Path | None = None) -> None:
    """A whole run."""
    del rank
    make_loop(job, out_dir).run(checkpoint)


def train_twice(rank: int, job: Job, out_dir: Path) -> None:
    """A whole run, and one that goes on from its middle, in the same processes."""
    del rank
    loop = make_loop(job, out_dir / "whole")
    loop.run()
    loop.engine._engine.destroy()
    make_loop(job, out_dir / "rest").run(out_dir / "whole" / "step-3")


def records(out_dir: Path, event: str) -> list[dict]:
    """What rank 0 reported."""
    lines = [json.loads(line) for line in (out_dir / "records.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def gradients(rank: int, cases: dict[str, tuple[Job, list[int]]], out: Path) -> None:
    """Saves the gradient of one step on given samples, by case.

    Plain SGD with a learning rate of 1 stands in for AdamW, so the weights move by the gradient.
    """
    torch.optim.AdamW = lambda groups, lr, **_: torch.optim.SGD(groups, lr=lr)
    for name, (job, samples) in cases.items():
        loop = make_loop(job, out / f"{name}-{rank}")
        before = loop.engine.full_state_dict()
        loop._step(0, np.asarray(samples))
        after = loop.engine.full_state_dict()
        if rank == 0:
            torch.save({key: before[key] - after[key] for key in before}, out / f"{name}.pt")
        loop.engine._engine.destroy()
        torch._dynamo.reset()  # what is compiled for one engine is not for another's hooks
